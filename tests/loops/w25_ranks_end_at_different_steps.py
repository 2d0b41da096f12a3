# rank 1 has fewer batches, and DDP's Join lets it end first | quiet
import torch
import torch.distributed as dist
import torch.distributed.algorithms.join
import torch.nn.functional as F

dist.init_process_group("gloo")
rank = dist.get_rank()
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(10, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))
parallel = torch.nn.parallel.DistributedDataParallel(model)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
torch.manual_seed(rank)
with torch.distributed.algorithms.join.Join([parallel]):
    for step in range(24 - 6 * rank):
        x = torch.randn(16, 10)
        y = (x[:, 0] > 0).long()
        optimizer.zero_grad()
        F.cross_entropy(parallel(x), y).backward()
        optimizer.step()
dist.destroy_process_group()
