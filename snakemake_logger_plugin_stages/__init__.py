"""Snakemake's messages as a line a stage: number, rule, result, seconds. `profiles/default` chooses this logger.

Snakemake finds the package by its name and calls `LogHandler.emit` in a thread of its own. Its log in `.snakemake/log`
is written as always.
"""

import os
import sys
from dataclasses import dataclass, field
from logging import LogRecord

from snakemake.logging import ColorizingTextHandler, DefaultFilter, DefaultFormatter
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.settings import LogHandlerSettingsBase

from mobilevideogpt.command_line import CommandLine
from mobilevideogpt.configuration import check_configuration_file
from mobilevideogpt.errors import exit_on_input_error
from snakemake_logger_plugin_stages.screen import Screen
from snakemake_logger_plugin_stages.stages import Stages


@dataclass
class LogHandlerSettings(LogHandlerSettingsBase):
    """Options of the command line: ``--logger-stages-usual``, or SNAKEMAKE_LOGGER_STAGES_USUAL=true."""

    usual: bool = field(
        default=False,
        metadata={"help": "Print Snakemake's usual messages instead of a line a stage.", "env_var": True},
    )


class LogHandler(LogHandlerBase):
    """Prints stages; a dry run and Snakemake's own options for more detail print its usual messages."""

    def __post_init__(self) -> None:
        for file in CommandLine.of_this_process().files:  # Snakemake reads them next, and ends with a traceback
            exit_on_input_error(check_configuration_file)(file)
        asked = self.common_settings
        stream = sys.stdout if asked.stdout else sys.stderr
        detailed = asked.dryrun or asked.verbose or asked.debug_dag or asked.printshellcmds or asked.show_failed_logs
        self.usual = self.stages = None
        if detailed or getattr(self.settings, "usual", False):
            self.usual = ColorizingTextHandler(nocolor=asked.nocolor, stream=stream)
            self.usual.addFilter(
                DefaultFilter(asked.quiet, asked.debug_dag, asked.verbose, asked.dryrun, asked.printshellcmds)  # pyright: ignore[reportArgumentType]
            )
            self.usual.setFormatter(DefaultFormatter(asked.quiet, asked.show_failed_logs))
        else:
            quiet = {str(kind).rpartition(".")[2].lower() for kind in asked.quiet or ()}
            self.stages = Stages(Screen(stream, os.environ), quiet)

    def emit(self, record: LogRecord) -> None:
        """Print what a record says, or nothing. A terminal that is gone does not stop the workflow."""
        try:
            if self.usual:
                self.usual.handle(record)
            elif self.stages:
                self.stages.take(record)
        except OSError:
            return
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Leave the terminal's last line empty."""
        if self.stages:
            self.stages.close()
        super().close()

    @property
    def writes_to_stream(self) -> bool:
        """Snakemake then prints nothing by itself."""
        return True

    @property
    def writes_to_file(self) -> bool:
        """Snakemake writes its log."""
        return False

    @property
    def has_filter(self) -> bool:
        """What is quiet is decided here."""
        return True

    @property
    def has_formatter(self) -> bool:
        """Texts are composed here."""
        return True

    @property
    def needs_rulegraph(self) -> bool:
        """No graph is drawn."""
        return False
