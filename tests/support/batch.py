"""A pretended sbatch, scancel and squeue beside those of `slurm`: jobs run at once, in the foreground of sbatch."""

from pathlib import Path

_SBATCH = """\
#!/bin/sh
printf '%s\\n' "$@" >'{folder}/sbatch'
for last; do :; done
cp "$last" '{folder}/script'
[ ! -e '{folder}/refuse' ] || {{ echo 'sbatch: error: invalid partition specified: gpux' >&2; exit 1; }}
echo '4711;cluster'
"""
_SCANCEL = """\
#!/bin/sh
echo "scancel $*" >>'{folder}/calls'
"""
_SCONTROL = """\
#!/bin/sh
echo "scontrol $*" >>'{folder}/calls'
"""
_SQUEUE = """\
#!/bin/sh
cat '{folder}/state' 2>/dev/null
"""


def pretend_batch(folder: Path) -> Path:
    """Install the programs in `folder`/bin, which is returned and is to be put on PATH."""
    programs = folder / "bin"
    programs.mkdir(parents=True)
    texts = {"sbatch": _SBATCH, "scancel": _SCANCEL, "squeue": _SQUEUE, "scontrol": _SCONTROL}
    for name, text in texts.items():
        (programs / name).write_text(text.format(folder=folder))
        (programs / name).chmod(0o755)
    return programs
