# ignite: accumulation whose windows span epochs, an average of the weights, and evaluators of both sets at every epoch
import torch
from ignite.engine import Events, create_supervised_evaluator, create_supervised_trainer
from ignite.handlers import EMAHandler, LRScheduler
from ignite.metrics import Accuracy, Loss
from reproducible import print_digest, seed_everything
from torch import nn


def batches(n):
    return [(torch.randn(16, 20), torch.randint(0, 5, (16,))) for _ in range(n)]


seed_everything()
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 5))
optimizer, criterion = torch.optim.Adam(model.parameters(), 1e-3), nn.CrossEntropyLoss()
training, validation = batches(11), batches(3)
trainer = create_supervised_trainer(model, optimizer, criterion, gradient_accumulation_steps=4)
train_evaluator = create_supervised_evaluator(model, {"accuracy": Accuracy()})
validation_evaluator = create_supervised_evaluator(model, {"accuracy": Accuracy(), "loss": Loss(criterion)})
schedule = LRScheduler(torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.9))
trainer.add_event_handler(Events.EPOCH_COMPLETED, schedule)
EMAHandler(model, momentum=0.01).attach(trainer)


@trainer.on(Events.EPOCH_COMPLETED)
def evaluate(engine):
    train_evaluator.run(training)
    validation_evaluator.run(validation)


trainer.run(training, max_epochs=5)
print_digest(model)
