"""The upload with the hub's own client to a local server, and the way back."""

import json
import os
import subprocess
import sys

import pytest

from mobilevideogpt.serving.export import export, export_original_adapter
from mobilevideogpt.serving.finetuned import find_finetuned
from tests.serving.hub_server import TOKEN, running_hub

START = """
import os
import mobilevideogpt
from mobilevideogpt.errors import InputError
from mobilevideogpt.serving.finetuned import find_finetuned
from mobilevideogpt.serving.push import push

def upload(**options):
    try:
        print("\\n".join(push(find_finetuned("tiny"), "me/try", **options)))
    except InputError as error:
        print("ERROR:", error)

def answer(name):
    return mobilevideogpt.load(name)("dataset/squats/1.mp4", exercise="squats", max_new_tokens=6)

"""


@pytest.fixture
def hub():
    with running_hub() as hub:
        yield hub


@pytest.fixture
def python(hub, project, request):
    """Run code beside the project in another process: the client reads where the hub is when it is imported."""

    def run(code):
        paths = {"HF_ENDPOINT": hub.url, "HF_HOME": str(project / "hf"), "PYTHONPATH": str(request.config.rootpath)}
        options = {"HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        command = [sys.executable, "-W", "ignore", "-c", START + code]
        environment = {**os.environ, **paths, **options}
        done = subprocess.run(command, capture_output=True, text=True, cwd=project, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_an_adapter_is_uploaded_privately_resumes_and_answers_from_there(hub, python, project):
    hub.refuse_uploads = 99
    printed = python("upload(dry_run=True)\nupload()\ndel os.environ['HF_TOKEN']\nupload()")
    assert "adapter_model.safetensors" in printed and "Nothing was uploaded" in printed
    assert "ERROR: the repository me/try: the upload was interrupted" in printed and not hub.uploaded
    assert "hf auth login" in printed.splitlines()[-1]
    hub.refuse_uploads = 0
    printed = python("upload()\nupload()\nassert answer('me/try') == answer('results/tiny') != ''")
    repository = hub.repositories["me/try"]
    assert repository["private"] and len(hub.uploaded) == 1, "a file that arrived is sent again"
    files = repository["files"]
    assert {"README.md", "SHA256SUMS", "adapter_config.json", "adapter_model.safetensors", "train.json"} <= files.keys()
    assert b"secret-machine" not in b"".join(files.values())
    assert b'mobilevideogpt.load("me/try")' in files["README.md"]
    assert json.loads(files["adapter_config.json"])["base_model_name_or_path"] == "owner/base"
    find_finetuned("tiny")  # the run's own files are as they were


@pytest.mark.slow
def test_an_export_is_uploaded_and_answers_from_there(hub, python, project):
    export(find_finetuned("tiny"), "results/tiny/export")
    export_original_adapter(find_finetuned("tiny"), "results/tiny/original-lora")
    printed = python(
        "upload(exported='results/tiny/export', public=True)\n"
        "upload(exported='results/tiny/original-lora', dry_run=True)\n"
        "from mobilevideogpt.hub.checkpoints import fetch\n"
        "fetch('me/try', 'checkpoints/me/try')\n"  # as model.base: me/try does
        "assert answer('me/try') == answer('checkpoints/me/try') == answer('results/tiny') != ''"
    )
    assert not hub.repositories["me/try"]["private"] and "non_lora_trainables.bin" in printed
