# stable-baselines3: a target network that is copied now and then
from reproducible import print_digest, seed_everything
from stable_baselines3 import DQN

seed_everything()
agent = DQN(
    "MlpPolicy",
    "CartPole-v1",
    seed=0,
    device="cpu",
    learning_starts=50,
    train_freq=4,
    target_update_interval=50,
    batch_size=16,
    policy_kwargs={"net_arch": [16, 16]},
)
agent.learn(250)
print_digest(agent.policy)
