"""Memory limit of a worker process."""

import psutil


def limit_memory(memory_bytes: int) -> None:
    """Limit the address space of this process to its present size plus ``memory_bytes``, where the system can."""
    try:
        import resource

        limit = psutil.Process().memory_info().vms + memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    except (ImportError, ValueError, OSError):
        pass
