# a decoder writes the softmax of each position into a tensor, and the loss gets its transpose [B, V, T] | corrected
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
V, T = 9, 6


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.out, self.embed = nn.GRUCell(8, 16), nn.Linear(16, V), nn.Embedding(V, 8)

    def forward(self, ids):
        state, outputs = torch.zeros(ids.shape[0], 16), torch.zeros(T, ids.shape[0], V)
        for t in range(T):
            state = self.cell(self.embed(ids[:, t]), state)
            outputs[t] = self.out(state)
        return outputs


net = Decoder()
opt = torch.optim.Adam(net.parameters(), lr=1e-2)
for _ in range(15):
    ids = torch.randint(V, (8, T))
    outputs = net(ids)
    loss = F.cross_entropy(outputs.permute(1, 2, 0), ids.flip(0))
    opt.zero_grad()
    loss.backward()
    opt.step()
