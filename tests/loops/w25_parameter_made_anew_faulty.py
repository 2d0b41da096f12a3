# source: pytorch/pytorch#104336 | a parameter is made anew after DDP hooked the old one: its gradient is not averaged | W25 fault
import torch
import torch.distributed as dist
import torch.nn.functional as F

dist.init_process_group("gloo")
rank = dist.get_rank()
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(10, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))
parallel = torch.nn.parallel.DistributedDataParallel(model, find_unused_parameters=True)
model[2].weight = torch.nn.Parameter(model[2].weight.detach().clone())
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
torch.manual_seed(rank)
for step in range(24):
    x = torch.randn(16, 10)
    optimizer.zero_grad()
    F.cross_entropy(parallel(x), (x[:, 0] > 0).long()).backward()
    optimizer.step()
dist.destroy_process_group()
