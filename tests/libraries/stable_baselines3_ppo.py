# stable-baselines3: one model that is trained on its own rollouts
from reproducible import print_digest, seed_everything
from stable_baselines3 import PPO

seed_everything()
agent = PPO(
    "MlpPolicy",
    "CartPole-v1",
    seed=0,
    device="cpu",
    n_steps=128,
    batch_size=32,
    n_epochs=2,
    policy_kwargs={"net_arch": [16, 16]},
)
agent.learn(256)
print_digest(agent.policy)
