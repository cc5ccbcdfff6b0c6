"""Forward, backward and Adam of one workload in PyTorch, one thread; prints batches per CPU second."""
import sys
import time

import torch

SHAPES = {  # steps, batch, features, units, outputs, decides at every step
    "t1": (64, 32, 32, 64, 6, True),
    "t2": (128, 64, 9, 32, 6, False),
    "t3": (20, 50, 5, 32, 3, False),
}
steps, batch, features, units, outputs, every = SHAPES[sys.argv[1]]
torch.set_num_threads(1)
gru = torch.nn.GRU(features, units)
dense = torch.nn.Linear(units, outputs)
optimizer = torch.optim.Adam([*gru.parameters(), *dense.parameters()], 1e-3)
x = torch.randn(steps, batch, features)
target = torch.arange(batch) % outputs
if every:
    target = target.repeat(steps)


def learn():
    optimizer.zero_grad()
    states, _ = gru(x)
    logits = dense(states if every else states[-1]).reshape(-1, outputs)
    torch.nn.functional.cross_entropy(logits, target).backward()
    optimizer.step()


for _ in range(5):
    learn()
count, start, cpu = 0, time.time(), time.process_time()
while time.time() - start < 1.5:
    learn()
    count += 1
print(count / (time.process_time() - cpu))
