"""A detector is a plain module: this trains one in a loop of one's own, without torso's engine.

python docs/example_loop.py DATA    (a folder in COCO, Pascal VOC or YOLO form)
"""

import sys

import torch

import torso


def train(folder: str, *, epochs: int = 1, backbone: str = "resnet18", **arguments: object) -> torso.Detector:
    data, notes = torso.open_dataset(folder, "train")
    print(*notes, f"{len(data)} images to learn from", sep="\n")
    recipe = torso.recipe("fcos", num_classes=len(data.class_names), backbone=backbone, overrides=arguments)
    model, criterion = recipe.get("model").build(), recipe.get("criterion").build()
    model.names = data.class_names
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for epoch in range(epochs):
        for batch in torso.batches(data, model, epoch=epoch, batch_size=4, augment=recipe.get("augment")):
            loss, terms = torso.loss_of(criterion(model, batch.images, batch.targets))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            print(f"loss {loss.item():.3f}", {name: round(term.item(), 3) for name, term in terms.items()})
    return model.eval()


if __name__ == "__main__":
    train(sys.argv[1])
