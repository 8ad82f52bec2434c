"""The extra `deep` of the kernel environment: torch, at the one pinned version."""

import subprocess
from pathlib import Path

from hub_config.settings import load_settings
from tests.conftest import missing

TRAIN = """
import torch
torch.manual_seed(0)
x = torch.randn(256, 3); y = x @ torch.tensor([1.0, -2.0, 0.5])
model = torch.nn.Linear(3, 1)
step = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(200):
    step.zero_grad(); loss = ((model(x)[:, 0] - y) ** 2).mean(); loss.backward(); step.step()
assert loss.item() < 1e-3, loss.item()
print(torch.__version__.split("+")[0])
"""


def test_torch_trains_at_the_pinned_version():
    python = load_settings({}, data_dir=Path("/nowhere")).kernel_python
    done = subprocess.run([str(python), "-c", TRAIN], capture_output=True, text=True)
    if "No module named 'torch'" in done.stderr:
        missing("deep", "the kernel environment has no torch; make install EXTRAS=deep")
    assert done.returncode == 0, done.stderr
    pins = (Path(__file__).parents[2] / "constraints.txt").read_text()
    assert f"torch=={done.stdout.strip()}" in pins
