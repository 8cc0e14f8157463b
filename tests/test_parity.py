"""docs/parity.md: every row names a test that exists, and every option of the reference has a row."""

import ast
import re
from pathlib import Path

import pytest
from test_cli_scripts import OPTIMISATION

TESTS = Path(__file__).parent
TEXT = (TESTS.parent / "docs/parity.md").read_text(encoding="utf-8")
ROWS = [line for line in TEXT.splitlines() if line.startswith("| ") and not line.endswith("| test |")]
OPTIONS = {
    "train": """-s -m -i -r -w -t --source_path --model_path --images --resolution --white_background --eval --bind_to_mesh
        --sh_degree --select_camera_id --disable_flame_static_offset --not_finetune_flame_params --iterations --interval
        --test_iterations --save_iterations --checkpoint_iterations --start_checkpoint --metric_xyz --metric_scale --quiet
        --data_device --port --ip --debug_from --detect_anomaly --convert_SHs_python --compute_cov3D_python --target_path
        --position_lr_delay_mult --debug """
    + " ".join(f"--{name}" for name in OPTIMISATION),
    "render": """-m -s -t -r -w -i --skip_train --skip_val --skip_test --iteration --render_mesh --select_camera_id --quiet
        --model_path --target_path""",
    "metrics": "-m --model_paths",
}


@pytest.mark.parametrize("row", ROWS, ids=range(len(ROWS)))
def test_every_row_names_a_test_that_exists(row: str) -> None:
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert len(cells) == 3 and all(cells), row
    file, _, name = cells[2].strip("`").partition("::")
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, f"{file} has no {name}"


@pytest.mark.parametrize("command", OPTIONS)
def test_every_option_has_a_row(command: str) -> None:
    section = re.split(r"^## ", TEXT, flags=re.MULTILINE)
    rows = next(part for part in section if part.startswith(f"`{command}`"))
    named = {word for cell in re.findall(r"^\| (.*?) \|", rows, re.MULTILINE) for word in re.findall(r"-{1,2}\w+", cell)}
    wanted = set(OPTIONS[command].split())
    assert wanted <= named, wanted - named
