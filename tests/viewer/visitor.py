"""A browser without a screen: it speaks viser's protocol, takes pictures, and works the controls by their labels."""

from __future__ import annotations

import io
import threading
import time
import uuid
from typing import Any

import msgspec.msgpack
import numpy as np
import viser
import zstandard
from PIL import Image
from viser import _messages as messages
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

PATIENCE = 30.0  # seconds; the first picture compiles kernels


class Visitor:
    """One connection to a viewer.

    Attributes:
        pictures: number of those taken.
        controls: what the server said of each control, by the label that it had at first (Play, where it says Pause).
        files: name and content of those sent.
        notices: texts of notifications.
    """

    def __init__(self, address: str, width: int = 80, height: int = 120, taking: float = 0.0) -> None:
        self.pictures = 0
        self.controls: dict[str, dict[str, Any]] = {}
        self.files: dict[str, bytes] = {}
        self.notices: list[str] = []
        self.size, self.taking = (width, height), taking
        self.camera: dict[str, Any] = {}
        self._by_uuid: dict[str, dict[str, Any]] = {}
        self._transfers: dict[str, tuple[str, list[bytes]]] = {}
        self._picture = b""
        self._news = threading.Condition()
        self._socket = connect(
            address.replace("http", "ws"), subprotocols=[f"viser-v{viser.__version__}"], max_size=None, compression=None
        )  # fmt: skip
        self._camera_told: dict[str, Any] = {
            "fov": 0.3,
            "position": (0.0, 0.0, 1.2),
            "look_at": (0.0, 0.0, 0.0),
            "up": (0.0, 1.0, 0.0),
        }
        threading.Thread(target=self._listen, daemon=True).start()
        time.sleep(0.3)  # until the controls are there
        self.stand(**self._camera_told)

    def close(self) -> None:
        self._socket.close()

    # -- what it does

    def send(self, message: Any) -> None:
        self._socket.send(msgspec.msgpack.encode(message.as_serializable_dict()))

    def send_raw(self, content: bytes) -> None:
        self._socket.send(content)

    def stand(self, position=None, look_at=None, up=None, fov=None) -> None:
        """Moves the camera."""
        given = {"position": position, "look_at": look_at, "up": up, "fov": fov}
        told = self._camera_told
        told.update({name: value for name, value in given.items() if value is not None})
        place, target, above = (np.asarray(told[name], float) for name in ("position", "look_at", "up"))
        forward = (target - place) / np.linalg.norm(target - place)
        right = np.cross(forward, above)
        right /= np.linalg.norm(right)
        w, x, y, z = viser.transforms.SO3.from_matrix(np.stack([right, np.cross(forward, right), forward], 1)).wxyz
        width, height = self.size
        self.send(
            messages.ViewerCameraMessage(
                wxyz=(float(w), float(x), float(y), float(z)), position=tuple(map(float, place)), fov=float(told["fov"]),
                near=0.01, far=1000.0, image_height=height, image_width=width, look_at=tuple(map(float, target)),
                up_direction=tuple(map(float, above)),
            )
        )  # fmt: skip

    def set(self, label: str, value: object) -> None:
        """Sets a control; for a button, clicks it."""
        self.send(messages.GuiUpdateMessage(self.controls[label]["uuid"], {"value": value}))

    def click(self, label: str) -> None:
        self.set(label, True)

    def upload(self, label: str, name: str, content: bytes) -> None:
        source, transfer = self.controls[label]["uuid"], uuid.uuid4().hex
        self.send(messages.FileTransferStartUpload(source, transfer, name, "application/json", 1, len(content)))
        self.send(messages.FileTransferPart(source, transfer, 0, content))

    # -- what it sees

    @property
    def statistics(self) -> str:
        return self.texts[0]

    @property
    def texts(self) -> list[str]:
        """All that is written between the controls."""
        return [told["props"]["_markdown"] for told in self._by_uuid.values() if told["type"] == "GuiMarkdownMessage"]

    def picture(self) -> np.ndarray:
        """The last picture, (H,W,3) uint8."""
        return np.asarray(Image.open(io.BytesIO(self._picture)).convert("RGB"))

    def rested(self, after: int | None = None, height: int | None = None) -> np.ndarray:
        """The picture once nothing has come for a while: more than `after` pictures, and of this height."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            count = self.pictures
            time.sleep(0.6)
            if count == self.pictures and count > (after or 0) and (height is None or self.picture().shape[0] == height):
                return self.picture()
        raise AssertionError(f"no picture: {self.pictures} came, wanted more than {after}")

    def wait_for(self, condition, what: str) -> None:
        with self._news:
            assert self._news.wait_for(condition, PATIENCE), what

    def _listen(self) -> None:
        try:
            while True:
                window = self._socket.recv()
                assert isinstance(window, bytes)
                size = int.from_bytes(window[8:16], "little")
                content = msgspec.msgpack.decode(zstandard.decompress(window[16 : 16 + size]))
                at, self._buffers = 16 + size, []
                for length in content["binaryBufferLengths"]:
                    at += -at % 8
                    self._buffers.append(window[at : at + length])
                    at += length
                for message in content["messages"]:
                    self._take(self._whole(message))
                with self._news:
                    self._news.notify_all()
        except ConnectionClosed:
            pass

    def _whole(self, value: Any) -> Any:
        """A message with its arrays and bytes in their places."""
        if isinstance(value, dict) and "__binary_index" in value:
            buffer = self._buffers[value["__binary_index"]]
            return np.frombuffer(buffer, value["dtype"]) if value.get("dtype") not in (None, "bytes") else buffer
        if isinstance(value, dict):
            return {name: self._whole(part) for name, part in value.items()}
        return [self._whole(part) for part in value] if isinstance(value, list) else value

    def _take(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "BackgroundImageMessage" and message["rgb_data"]:
            time.sleep(self.taking)
            self._picture = message["rgb_data"]
            self.pictures += 1
        elif kind == "LocalStorageGetItemRequestMessage":
            self.send(messages.LocalStorageGetItemResponseMessage(None, None, message["request_uuid"]))
        elif kind == "GuiUpdateMessage" and message["uuid"] in self._by_uuid:
            told = self._by_uuid[message["uuid"]]
            told.update({name: value for name, value in message["updates"].items() if name == "value"})
            told["props"].update({name: value for name, value in message["updates"].items() if name != "value"})
        elif kind.startswith("Gui") and "props" in message:
            self._by_uuid[message["uuid"]] = message
            label = message["props"].get("label") or message["props"].get("title") or kind
            self.controls.setdefault("Play" if label == "Pause" else label, message)
        elif kind == "SetCameraPositionMessage":
            self.stand(position=message["position"])
        elif kind == "SetCameraLookAtMessage":
            self.stand(look_at=message["look_at"])
        elif kind == "SetCameraUpDirectionMessage":
            self.stand(up=message["position"])
        elif kind == "SetCameraFovMessage":
            self.stand(fov=message["fov"])
        elif kind == "FileTransferStartDownload":
            self._transfers[message["transfer_uuid"]] = message["filename"], []
        elif kind == "FileTransferPart":
            name, parts = self._transfers[message["transfer_uuid"]]
            parts.append(message["content"])
            self.files[name] = b"".join(parts)
        elif kind == "NotificationShowMessage":
            self.notices.append(f"{message['props']['title']}: {message['props']['body']}")
