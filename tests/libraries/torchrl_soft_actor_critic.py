# torchrl: SAC, whose loss holds the networks' parameters, runs them functionally, and has targets that it moves itself
import torch
from reproducible import print_digest, seed_everything
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import nn
from torchrl.modules import NormalParamExtractor, ProbabilisticActor, TanhNormal, ValueOperator
from torchrl.objectives import SACLoss, SoftUpdate


class Value(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, observation, action):
        return self.net(torch.cat([observation, action], -1))


def replayed(n=32):
    flags = {name: torch.zeros(n, 1, dtype=torch.bool) for name in ("done", "terminated")}
    after = TensorDict({"observation": torch.randn(n, 4), "reward": torch.randn(n, 1), **flags}, [n])
    action = 1.8 * torch.rand(n, 2) - 0.9
    return TensorDict({"observation": torch.randn(n, 4), "action": action, "next": after}, [n])


seed_everything()
net = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 4), NormalParamExtractor())
actor = ProbabilisticActor(
    TensorDictModule(net, in_keys=["observation"], out_keys=["loc", "scale"]),
    in_keys=["loc", "scale"],
    distribution_class=TanhNormal,
    return_log_prob=True,
)
critic = ValueOperator(Value(), in_keys=["observation", "action"], out_keys=["state_action_value"])
loss_module = SACLoss(actor, critic, num_qvalue_nets=2, action_spec=None, target_entropy=-2.0)
target = SoftUpdate(loss_module, eps=0.99)
optimizer = torch.optim.Adam(loss_module.parameters(), 1e-3)
for _ in range(25):
    losses = loss_module(replayed())
    optimizer.zero_grad()
    (losses["loss_actor"] + losses["loss_qvalue"] + losses["loss_alpha"]).backward()
    optimizer.step()
    target.step()
print_digest(loss_module)
