# local SGD: parameters are averaged after every fifth step | quiet
import torch
import torch.distributed as dist
import torch.nn.functional as F

dist.init_process_group("gloo")
rank = dist.get_rank()
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(10, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))
parallel = torch.nn.parallel.DistributedDataParallel(model)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
torch.manual_seed(rank)
for step in range(24):
    x = torch.randn(16, 10)
    y = (x[:, 0] > 0).long()
    optimizer.zero_grad()
    with parallel.no_sync():
        F.cross_entropy(parallel(x), y).backward()
    optimizer.step()
    if step % 5 == 4:
        for parameter in model.parameters():
            dist.all_reduce(parameter.data)
            parameter.data /= dist.get_world_size()
dist.destroy_process_group()
