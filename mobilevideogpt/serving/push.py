"""The upload of an adapter or an export to the Hugging Face hub."""

import logging
import os
import shutil
import tempfile
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HTTPError, LocalTokenNotFoundError  # pyright: ignore[reportPrivateImportUsage]

from mobilevideogpt.checksums import SUMS, write_sums
from mobilevideogpt.errors import InputError
from mobilevideogpt.files import read_json, write_json, write_text
from mobilevideogpt.hub.retry import REMEDIES, refused
from mobilevideogpt.model.model_paths import ADAPTER_FILES
from mobilevideogpt.serving.finetuned import Finetuned
from mobilevideogpt.serving.model_card import card, hub_name, public_record
from mobilevideogpt.training.checkpoints import CARD, FINGERPRINT, RUN_RECORD

log = logging.getLogger(__name__)
NOT_UPLOADED = {FINGERPRINT, SUMS, CARD, RUN_RECORD, "made_by.txt"}  # or written for the upload


def push(
    finetuned: Finetuned,
    repo_id: str,
    *,
    exported: str | Path | None = None,
    public: bool = False,
    dry_run: bool = False,
) -> list[str]:
    """Upload a fine-tuned model, with a model card and without the names of machines.

    An interrupted upload resumes when it is called again: files that arrived are not sent twice.

    Args:
        finetuned: The run.
        repo_id: ``owner/name``; made, private unless ``public``, if it does not exist.
        exported: Folder of an export to upload; the adapter by default.
        public: Whether a new repository is public.
        dry_run: Only list the files.

    Returns:
        Lines for the user: the files with their sizes, and where they are.

    Raises:
        InputError: If there is no token, or the hub refuses or cannot be reached.
    """
    source = Path(exported) if exported else finetuned.adapter
    if source is None:
        raise InputError(f"{finetuned.name}: has no adapter; push a run")
    with tempfile.TemporaryDirectory(prefix=".push-", dir=source.parent) as temporary:
        folder = Path(temporary)
        _stage(finetuned, source, folder, repo_id)
        files = sorted(path for path in folder.iterdir())
        total = sum(path.stat().st_size for path in files)
        lines = [f"{path.stat().st_size / 1e6:10.3f} MB  {path.name}" for path in files]
        lines.append(f"{total / 1e6:10.3f} MB  in {len(files)} files")
        if dry_run:
            return [*lines, f"Nothing was uploaded; without dry_run=true, these files go to {repo_id}"]
        return [*lines, f"Uploaded: {_upload(folder, repo_id, public)}"]


def _stage(finetuned: Finetuned, source: Path, folder: Path, repo_id: str) -> None:
    """Put the files to upload into a folder; weights are links, not copies, where the disk can."""
    for path in source.iterdir():
        if path.is_file() and path.name not in NOT_UPLOADED:
            try:
                os.link(path, folder / path.name)
            except OSError:
                shutil.copyfile(path, folder / path.name)
    if (config := folder / ADAPTER_FILES[0]).is_file():
        values = read_json(config, shape=dict)
        named = values.get("base_model_name_or_path")
        config.unlink()  # a link to the run's own
        write_json(values | {"base_model_name_or_path": named and hub_name(named)}, config)
    write_json(public_record(finetuned.record), folder / RUN_RECORD)
    write_sums(folder)
    kind = "adapter" if source == finetuned.adapter else "export"
    if (folder / "non_lora_trainables.bin").is_file():
        kind = "original-adapter"
    write_text(str(card(finetuned, kind, name=repo_id)), folder / CARD)


def _upload(folder: Path, repo_id: str, public: bool) -> str:
    api, where = HfApi(), f"the repository {repo_id}"
    try:
        url = api.create_repo(repo_id, private=not public, exist_ok=True)
        api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message="Upload a fine-tuned model")
    except LocalTokenNotFoundError:
        raise InputError(f"{where}: no token is stored; log in with `hf auth login`, or set HF_TOKEN") from None
    except (HTTPError, OSError, RuntimeError) as error:  # RuntimeError: the client's own, about a large file
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        if getattr(getattr(cause, "response", None), "status_code", None) in REMEDIES:
            raise refused(where, cause) from error
        what = f"{type(cause).__name__}: {str(cause).strip().partition(chr(10))[0]}"
        raise InputError(
            f"{where}: the upload was interrupted ({what}); run the same command again, which sends only what has not "
            "arrived"
        ) from error
    return str(url)
