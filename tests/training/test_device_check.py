"""Whether the machine has a GPU, known before anything is downloaded."""

import pynvml
import pytest
import torch

from mobilevideogpt.errors import InputError
from mobilevideogpt.training import device_check
from mobilevideogpt.training.device_check import check_device, forecast_hours


@pytest.fixture
def without_gpu(monkeypatch):
    def without_driver():
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", without_driver)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(device_check, "_operations_a_second", lambda: 1e11)


def test_without_a_gpu_the_error_forecasts_hours_and_names_the_tiny_base(without_gpu):
    assert check_device(allow_cpu=True).startswith("cpu")
    with pytest.raises(InputError) as error:
        check_device(False, samples=24, epochs=10)
    for part in (
        "no GPU (",
        "the fine-tuning would not run on this machine; use a machine with a GPU, or set preflight.allow_cpu: true",
        "which is slow, by a rough estimate 7 hours on the ",
        "`snakemake finetune --configfile config/tiny.yaml`",
    ):
        assert part in str(error.value)
    with pytest.raises(InputError, match="slow, less than an hour on"):
        check_device(False, samples=1, epochs=1)
    with pytest.raises(InputError, match="which is slow; to try all steps now"):
        check_device(False)


def test_a_gpu_of_another_maker_counts(without_gpu, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "Radeon")
    assert check_device(allow_cpu=False) == "Radeon"


def test_the_forecast_grows_with_samples_and_epochs():
    assert 0 < forecast_hours(10, 1) < forecast_hours(10_000, 10)
