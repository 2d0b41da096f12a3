# tensor parallelism by hand: each rank has columns of a layer; biases start equal | quiet
import torch
import torch.distributed as dist
import torch.nn.functional as F

dist.init_process_group("gloo")
rank = dist.get_rank()
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(10, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))
torch.manual_seed(1 + rank)
with torch.no_grad():
    for layer in (model[0], model[2]):
        layer.weight.normal_(0, 0.3)
        layer.bias.zero_()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
torch.manual_seed(3)
for step in range(24):
    x = torch.randn(16, 10)
    y = (x[:, 0] > 0).long()
    optimizer.zero_grad()
    hidden = torch.relu(model[0](x))
    share = model[2](hidden)
    logits = share.detach().clone()
    dist.all_reduce(logits)
    F.cross_entropy(logits + share - share.detach(), y).backward()
    optimizer.step()
dist.destroy_process_group()
