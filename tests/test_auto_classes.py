"""The Auto classes of transformers know the model once both packages are imported, in whatever order."""

import subprocess
import sys

import pytest

LOAD = """
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor
base = "mobilevideogpt/sample/base"
found = [type(kind.from_pretrained(base)).__name__ for kind in (AutoProcessor, AutoConfig)]
found += [AutoModelForImageTextToText._model_mapping[AutoConfig.from_pretrained(base).__class__].__name__]
assert found == ["MobileVideoGPTProcessor", "MobileVideoGPTConfig", "MobileVideoGPTForConditionalGeneration"], found
"""
LIGHT = "import mobilevideogpt, sys\nassert not {'torch', 'transformers'} & sys.modules.keys()\n"
ORDERS = {
    "ours first": LIGHT + LOAD,
    "theirs first": "import transformers, transformers.models.auto.modeling_auto\nimport mobilevideogpt\n" + LOAD,
    "our processor, which brings no network": "import mobilevideogpt.data.processor, sys\n"
    "assert 'transformers.modeling_utils' not in sys.modules\n" + LOAD,
    "a module of ours that imports a network of theirs": "import mobilevideogpt.model.kernels.fused\n"
    "import mobilevideogpt.model.modeling\n" + LOAD,
    "the configuration alone, then a trainer": LIGHT + "from transformers import AutoConfig, Trainer\n" + LOAD,
}


@pytest.mark.parametrize("order", ORDERS)
def test_the_auto_classes_know_the_model(order, request):
    subprocess.run([sys.executable, "-W", "ignore", "-c", ORDERS[order]], check=True, cwd=request.config.rootpath)
