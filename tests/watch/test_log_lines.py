"""What lines of a log are: errors, warnings, records of the curve, or other lines."""

import pytest

from tdiff.watch.log_lines import kind_of, kinds


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("step 10/400 loss 3.1", "record"),
        ("{'loss': 2.31, 'learning_rate': 1e-4, 'epoch': 0.4}", "record"),
        ("14:02:11  step 820  loss 1.5488  lr 2.70e-04  grad 0.9100  87,400 tokens/s", "record"),
        (" 37%|###7      | 37/100 [00:10<00:17,  3.61it/s]", "record"),
        ("iter 7 loss 2.5 error 0.12", "record"),
        ("saved ckpt/042000.safetensors", "other"),
        ("loading 12 shards", "other"),
        ("finished with 0 errors", "other"),
        ("/x/torch/optim.py:12: UserWarning: lr_scheduler.step() before optimizer.step()", "warning"),
        ("WARNING gradient overflow, skipping step", "warning"),
        ("step 9 loss nan", "warning"),
        ("[rank0]: RuntimeError: CUDA error: device-side assert triggered", "error"),
        ("torch.OutOfMemoryError: CUDA out of memory.", "error"),
        ("slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026-01-01 DUE TO TIME LIMIT ***", "error"),
    ],
)
def test_the_kind_of_a_line(line, kind):
    assert kind_of(line) == kind


def test_all_lines_of_a_traceback_are_errors():
    lines = [
        "step 1 loss 2",
        "Traceback (most recent call last):",
        '  File "train.py", line 3, in <module>',
        "    loss = step()",
        "KeyboardInterrupt",
        "step 2 loss 1",
    ]
    assert kinds(lines) == ["record", "error", "error", "error", "error", "record"]
