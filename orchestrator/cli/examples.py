"""An example for every verb, shown at the end of its ``--help``."""

from __future__ import annotations

EXAMPLES: dict[str, tuple[str, ...]] = {
    "plan": ("sweep=quickstart optim.lr=1e-4,2e-4 'seed=range(16)'", "sweep=paper cluster=kuberay --json"),
    "init": ("mine", "projects/mine --json"),
    "check": ("model=hf model.path=./my-model eval=math500", "model=tiny-64 eval=addition --json"),
    "completion": ("bash",),
    "launch": (
        "sweep=quickstart --yes",
        "sweep=mine.yaml optim.lr=1e-4,2e-4 --pool local",
    ),
    "resume": ("outputs/quickstart",),
    "rerun": (
        "outputs/quickstart --failed",
        "outputs/quickstart --incomplete 'optim.lr>=1e-3'",
    ),
    "cancel": ("outputs/quickstart optim.lr=1e-3",),
    "cap": ("outputs/quickstart --workers 4",),
    "stop": ("outputs/quickstart",),
    "join": ("outputs/quickstart --gpus 8", "outputs/quickstart --stay"),
    "status": ("outputs/quickstart --watch", "outputs/quickstart --run 3f7a"),
    "show": ("outputs/quickstart 3f7a", "outputs/quickstart 3f7a --json"),
    "verify": ("outputs/quickstart --json", "outputs/quickstart --deep"),
    "repair": ("outputs/quickstart",),
    "replay": ("outputs/quickstart 3f7a --save best-model",),
    "table": ("outputs/quickstart --by model,optim.lr", "outputs/quickstart 'seed<8' --format latex"),
    "compare": ("outputs/quickstart optim.lr=1e-4 optim.lr=2e-4 --by model", "outputs/quickstart optim.lr"),
    "pooled": ("outputs/quickstart model=tiny-64",),
    "adjust": ("outputs/ladder steps", "outputs/ladder optim.lr --reference 2e-4"),
    "profile": ("outputs/quickstart optim.lr",),
    "bounds": ("outputs/quickstart --by model,optim.lr",),
    "need": ("outputs/quickstart optim.lr=1e-4 optim.lr=2e-4 --effect 1", "outputs/quickstart optim.lr"),
    "report": ("outputs/quickstart --output quickstart.html",),
    "dashboard": ("outputs/quickstart --port 8050", "outputs/quickstart --host 0.0.0.0 --next-port"),
    "select": ("problems.jsonl --by length --top 5", "problems.jsonl --by majority_p1p --model tiny-64"),
    "merge": ("outputs/quickstart --method soup,wise --by model,example",),
    "mirror": ("outputs/quickstart --offline", "outputs/quickstart --to mlflow --url http://127.0.0.1:5000"),
    "log": ("outputs/quickstart --run 3f7a",),
    "doctor": ("--smoke", "--dir outputs --bundle help.zip"),
}
"""What follows ``emsweep VERB``, by verb."""


def epilog(verb: str) -> str:
    """The examples of a verb as the last paragraphs of its help."""
    lines = [f"emsweep {verb} {words}" for words in EXAMPLES[verb]]
    return "\n\n".join(["Examples:" if len(lines) > 1 else "Example:", *lines])
