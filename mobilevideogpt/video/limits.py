"""How much memory a process of one's own may take."""

import psutil


def limit_memory(memory_bytes: int) -> None:
    """Let this process take so much address space on top of what it has, where the system has such a limit."""
    try:
        import resource

        limit = psutil.Process().memory_info().vms + memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    except (ImportError, ValueError, OSError):
        pass
