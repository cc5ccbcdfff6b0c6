"""Writes gradients_directions.json: losses, logits and gradients of GRU layers that read from the end.

    python gradients_directions.py > gradients_directions.json

float64 PyTorch autograd. A layer that goes backwards is a `torch.nn.GRU` over the steps in reverse order, each
sequence within its own length; its outputs stay in the order in which it has read. In a bidirectional layer they are
turned again, so that both directions speak of the same step. Weights and inputs are f32 values.
"""

import json

import torch

SEED, FEATURES, CLASSES, STEPS, COUNT = 20241, 3, 4, 7, 6
LENGTHS = [7, 3, 1, 7, 5, 2]

# name, layers of (kind, units of each direction), merge, read-out, lengths
CASES = [
    ("backwards, last step", [("backwards", [5])], None, "last", None),
    ("backwards, last step, short sequences", [("backwards", [9])], None, "last", LENGTHS),
    ("backwards twice, mean, short sequences", [("backwards", [4]), ("backwards", [3])], None, "mean", LENGTHS),
    ("backwards, every step", [("backwards", [4])], None, "every", None),
    ("bidirectional, last step", [("both", [5, 5])], "concat", "last", None),
    ("bidirectional, last step, short sequences", [("both", [9, 4])], "concat", "last", LENGTHS),
    ("bidirectional, every step, short sequences", [("both", [4, 4])], "sum", "every", LENGTHS),
    ("bidirectional, mean", [("both", [4, 4])], "mul", "mean", None),
    ("bidirectional twice, every step", [("both", [4, 3]), ("both", [3, 3])], "concat", "every", None),
    ("bidirectional on backwards, last step", [("backwards", [4]), ("both", [3, 3])], "ave", "last", LENGTHS),
]
MERGE = {
    "concat": lambda a, b: torch.cat([a, b], 1),
    "sum": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "ave": lambda a, b: (a + b) / 2,
}


def f32(*shape, scale=1.0):
    return (scale * torch.randn(*shape)).float().double()


def run(gru, x):
    """Outputs [steps, units] of one sequence [steps, features]."""
    return gru(x.unsqueeze(0))[0].squeeze(0)


def network(layers, merge, dense, x, readout):
    """Logits [rows, classes] of one sequence; rows is 1 but for every step."""
    for at, (kind, grus) in enumerate(layers):
        top = at + 1 == len(layers)
        if kind == "backwards":
            x = run(grus[0], x.flip(0))
            x = x[-1:] if top and readout == "last" else x
        else:
            forward, backward = run(grus[0], x), run(grus[1], x.flip(0))
            if top and readout == "last":  # each direction's own last output
                x = MERGE[merge](forward[-1:], backward[-1:])
            else:
                x = MERGE[merge](forward, backward.flip(0))
    logits = dense(x)
    return logits.mean(0, keepdim=True) if readout == "mean" else logits


def case(name, shape, merge, readout, lengths):
    layers, width = [], FEATURES
    for kind, units in shape:
        layers.append((kind, [torch.nn.GRU(width, u, batch_first=True).double() for u in units]))
        width = sum(units) if merge == "concat" and kind == "both" else units[0]
    dense = torch.nn.Linear(width, CLASSES).double()
    modules = [g for _, grus in layers for g in grus] + [dense]
    # Of a GRU: weight_ih, weight_hh, bias_ih, bias_hh, each in rows r, z, n; of a Linear: weight, bias.
    parameters = [p for m in modules for p in m.parameters()]
    for p in parameters:
        p.data = f32(*p.shape, scale=0.5)
    x = f32(COUNT, STEPS, FEATURES)
    lens = lengths or [STEPS] * COUNT
    labels = torch.randint(CLASSES, (COUNT, STEPS if readout == "every" else 1))
    rows = [network(layers, merge, dense, x[i, :n], readout) for i, n in enumerate(lens)]
    wanted = torch.cat([labels[i, : len(r)] for i, r in enumerate(rows)])
    loss = torch.nn.functional.cross_entropy(torch.cat(rows), wanted)
    loss.backward()
    flat = lambda tensors: torch.cat([t.detach().flatten() for t in tensors]).tolist()
    short = lambda values: [float(f"{v:.9g}") for v in values]  # reads back to the same f32
    return {
        "name": name,
        "layers": [{"backwards": kind == "backwards", "units": units} for kind, units in shape],
        "merge": merge,
        "readout": readout,
        "lengths": lengths,
        "steps": STEPS,
        "features": FEATURES,
        "classes": CLASSES,
        "parameters": short(flat(parameters)),
        "input": short(flat([x])),
        "labels": labels.flatten().tolist(),
        "loss": loss.item(),
        "logits": flat(rows),
        "gradient": flat([p.grad for p in parameters]),
    }


torch.manual_seed(SEED)
print('{"torch": "%s", "seed": %d, "cases": [' % (torch.__version__, SEED))
print(",\n".join(json.dumps(case(*c)) for c in CASES))
print("]}")
