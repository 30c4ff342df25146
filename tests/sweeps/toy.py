"""A trainer of a few lines whose results depend on everything that a real one's do, for tests of sharing."""

import hashlib
from collections import Counter

from sweeps.sharing.schedules import multiplier
from sweeps.sharing.stages import base_evaluation_key, gradient_key, plan_stages, rollout_key
from sweeps.spec import canonical_json, group_to_dict


def digest(*parts):
    return hashlib.sha256(repr(parts).encode()).hexdigest()


_TEXTS = {}


def text_of(part):
    """A group as text; kept with the group itself, so that no other object gets its id."""
    if id(part) not in _TEXTS:
        _TEXTS[id(part)] = part, canonical_json(group_to_dict(part))
    return _TEXTS[id(part)][1]


def group(spec, name):
    return text_of(getattr(spec, name))


class Toy:
    """Counts what it computes; `run` computes everything, `run_group` walks the stages of a group."""

    def __init__(self):
        self.counts = Counter()
        self._rollouts, self._gradients, self._base = (None, None), (None, None), {}

    def _base_weights(self, spec):
        return digest(group(spec, "model"), group(spec, "engine"), group(spec, "resources"))

    def _draw(self, spec, weights, step):
        self.counts["rollout_batches"] += 1
        return digest(weights, group(spec, "example"), group(spec, "sampling"), spec.seed, step)

    def _gradient(self, spec, weights, rollouts):
        self.counts["gradients"] += 1
        return digest(weights, rollouts, group(spec, "objective"), group(spec, "trainer"))

    def _step(self, spec, weights, gradient, lr):
        self.counts["steps"] += 1
        optim = {k: v for k, v in group_to_dict(spec.optim).items() if k != "lr"}
        return digest(weights, gradient, canonical_json(optim), lr)

    def _judge(self, spec, weights, sampled):
        e = spec.eval
        name = "base_eval_passes" if weights == self._base_weights(spec) else "eval_passes"
        self.counts[name] += len(e.temperatures) * e.num_samples if sampled else int(e.greedy)
        settings = {k: v for k, v in group_to_dict(e).items() if k != "steps"}
        return digest(weights, canonical_json(settings), spec.seed if sampled else None)

    def run(self, spec):
        """One run by itself: what was recorded after each step."""
        weights, record = self._base_weights(spec), {}
        for step in range(spec.steps + 1):
            if step:
                rollouts = self._draw(spec, weights, step - 1)
                gradient = self._gradient(spec, weights, rollouts)
                lr = spec.optim.lr * multiplier(spec.schedule, step - 1, spec.steps)
                weights = self._step(spec, weights, gradient, lr)
                record[step] = (weights,)
            if step in spec.eval_steps:
                record[step, "eval"] = (self._judge(spec, weights, False), self._judge(spec, weights, True))
        return record

    def run_group(self, specs):
        """All runs of a group, each stage once."""
        records = [{} for _ in specs]

        def base(spec, sampled):
            key = base_evaluation_key(spec, sampled)
            if key not in self._base:
                self._base[key] = self._judge(spec, self._base_weights(spec), sampled)
            return self._base[key]

        def walk(stage, weights):
            spec = specs[stage.runs[0]]
            for runs in stage.evaluations.get(0, ()):
                verdicts = base(specs[runs[0]], False), base(specs[runs[0]], True)
                for r in runs:
                    records[r][0, "eval"] = verdicts
            for step, lr in stage.steps():
                weights = self._step(spec, weights, self._shared_gradient(spec, weights, step), lr)
                for r in stage.runs:
                    records[r][step] = (weights,)
                for runs in stage.evaluations.get(step, ()):
                    judge = specs[runs[0]]
                    verdicts = self._judge(judge, weights, False), self._judge(judge, weights, True)
                    for r in runs:
                        records[r][step, "eval"] = verdicts
            assert all(specs[r].steps == step for r in stage.ends)
            for child in stage.children:
                walk(child, weights)

        for root in plan_stages(specs):
            walk(root, self._base_weights(specs[root.runs[0]]))
        return records

    def _shared_gradient(self, spec, weights, step):
        if step > 1:
            return self._gradient(spec, weights, self._draw(spec, weights, step - 1))
        if self._rollouts[0] != rollout_key(spec):
            self._rollouts = rollout_key(spec), self._draw(spec, weights, 0)
        if self._gradients[0] != gradient_key(spec):
            self._gradients = gradient_key(spec), self._gradient(spec, weights, self._rollouts[1])
        return self._gradients[1]
