# rank 0 loads a checkpoint after the model was wrapped | W25 fault
import torch
import torch.distributed as dist
import torch.nn.functional as F

dist.init_process_group("gloo")
rank = dist.get_rank()
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(10, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))
parallel = torch.nn.parallel.DistributedDataParallel(model)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
state = {name: 1.1 * value for name, value in model.state_dict().items()}
if rank == 0:
    model.load_state_dict(state)
torch.manual_seed(rank)
for step in range(24):
    x = torch.randn(16, 10)
    y = (x[:, 0] > 0).long()
    optimizer.zero_grad()
    F.cross_entropy(parallel(x), y).backward()
    optimizer.step()
dist.destroy_process_group()
