"""A detector is a plain module: this trains one in a loop of one's own, without torso's engine.

python docs/example_loop.py DATA    (a folder in COCO, Pascal VOC or YOLO form)
"""

import sys

import torch

import torso
from torso.data.clean import clean
from torso.data.collate import collate
from torso.data.dataset import DetectionDataset
from torso.data.layout import open_dataset
from torso.data.to_input import ToInput
from torso.training.criteria._base import loss_of


def train(folder: str, *, epochs: int = 1, backbone: str = "resnet18", **arguments: object) -> torso.Detector:
    annotations, _ = clean(open_dataset(folder, "train"))
    model = torso.create("fcos", class_names=annotations.class_names, backbone=backbone, overrides=arguments)
    criterion = torso.find("fcos", "recipes")().get("criterion").build()
    dataset = DetectionDataset(annotations, [ToInput(model.input, model.multiple)])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for epoch in range(epochs):
        for rows in torch.randperm(len(dataset)).split(4):
            batch = collate([dataset[epoch, int(row)] for row in rows], model.multiple)
            loss, terms = loss_of(criterion(model, batch.images, batch.targets))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            print(f"loss {loss.item():.3f}", {name: round(term.item(), 3) for name, term in terms.items()})
    return model.eval()


if __name__ == "__main__":
    train(sys.argv[1])
