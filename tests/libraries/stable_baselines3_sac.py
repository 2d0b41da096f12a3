# stable-baselines3: an actor, two critics and an entropy coefficient, each with its optimizer
from reproducible import print_digest, seed_everything
from stable_baselines3 import SAC

seed_everything()
agent = SAC(
    "MlpPolicy",
    "Pendulum-v1",
    seed=0,
    device="cpu",
    learning_starts=100,
    batch_size=16,
    policy_kwargs={"net_arch": [16, 16]},
)
agent.learn(160)
print_digest(agent.policy)
