"""Checks discovery messages with Home Assistant's own schemas, templates and defaults; none runs.

usage: VENV/bin/python scripts/check-discovery.py FILE.json ...   (VENV: see tests/rig/homeassistant.sh)

A file is a message, {"topic": ..., "payload": {...}}, or a list of messages to or from the entities
of the first message, with what the entities are to make of them (tests/data/discovery/README.md).
Prints a line for each file, and what is wrong; fails if anything is.
"""

import asyncio
import importlib
import json
import sys
import tempfile

import voluptuous as vol
from homeassistant.components.mqtt.const import (
    DEFAULT_PAYLOAD_AVAILABLE,
    DEFAULT_PAYLOAD_NOT_AVAILABLE,
)
from homeassistant.components.mqtt.discovery import TOPIC_MATCHER, _replace_all_abbreviations
from homeassistant.components.mqtt.schemas import DEVICE_DISCOVERY_SCHEMA, SHARED_OPTIONS
from homeassistant.core import HomeAssistant
from homeassistant.helpers import frame
from homeassistant.helpers.template import Template

PREFIX = "homeassistant/"
FAULT = "an error in the log"


def known_keys(schema):
    """Every key that a schema speaks of: Home Assistant drops others without a word."""
    if isinstance(schema, vol.Schema):
        return known_keys(schema.schema)
    if isinstance(schema, vol.All | vol.Any):
        return set().union(*(known_keys(part) for part in schema.validators))
    return {str(key) for key in schema} if isinstance(schema, dict) else set()


def complaints_about(message):
    """What Home Assistant would not take of a discovery message, or take and drop."""
    topic, payload = message["topic"], json.loads(json.dumps(message["payload"]))
    match = TOPIC_MATCHER.match(topic.removeprefix(PREFIX))
    if not match or match["component"] != "device":
        return [f"{topic} is not the topic of a device"]
    _replace_all_abbreviations(payload)
    try:
        device = DEVICE_DISCOVERY_SCHEMA(json.loads(json.dumps(payload)))
    except vol.Invalid as invalid:
        return [f"the device: {invalid}"]
    shared = {key: payload[key] for key in [*SHARED_OPTIONS, "qos", "encoding"] if key in payload}
    wrong, ids = [], []
    for name, component in payload["components"].items():
        platform = component["platform"]
        if set(component) == {"platform"}:
            continue  # To be removed.
        ids.append(component.get("unique_id"))
        module = importlib.import_module(f"homeassistant.components.mqtt.{platform}")
        own = {key: value for key, value in component.items() if key != "platform"}
        try:
            module.DISCOVERY_SCHEMA(
                shared | own | {"device": device["device"], "origin": device["origin"]}
            )
        except vol.Invalid as invalid:
            wrong.append(f"{name}: {invalid}")
        dropped = sorted(set(own) - known_keys(module.DISCOVERY_SCHEMA))
        if dropped:
            wrong.append(f"{name}: would be dropped: {', '.join(dropped)}")
    if None in ids or len(set(ids)) != len(ids):
        wrong.append("each component needs a unique_id of its own")
    return wrong


def state_of(hass, component, payload):
    """The state that a payload on the component's state topic brings about; None for none."""
    value = payload
    if template := component.get("value_template"):
        value = Template(template, hass).async_render_with_possible_json_value(payload, FAULT)
        if value is FAULT:
            return FAULT
    on, off = component.get("payload_on", "ON"), component.get("payload_off", "OFF")
    if component["platform"] == "switch":
        on, off = component.get("state_on", on), component.get("state_off", off)
    return value if component["platform"] == "sensor" else {on: "on", off: "off"}.get(value)


def states_after(hass, components, topic, payload):
    """What every component makes of a message."""
    states = {}
    for name, component in components.items():
        if topic == component.get("state_topic"):
            states[name] = state_of(hass, component, payload)
        if topic == component.get("availability_topic"):
            states[name] = {
                component.get("payload_available", DEFAULT_PAYLOAD_AVAILABLE): "available",
                component.get("payload_not_available", DEFAULT_PAYLOAD_NOT_AVAILABLE): "unavailable",
            }.get(payload)
    return states


def complaints_about_states(hass, components, messages):
    """Where the components would make something else of the messages than they are to."""
    wrong = []
    for message in messages:
        topic, payload = message["topic"], message["payload"]
        text = payload if isinstance(payload, str) else json.dumps(payload)
        if commanded := message.get("commands"):
            component = components[commanded]
            sent = [component.get("payload_on", "ON"), component.get("payload_off", "OFF")]
            if component["command_topic"] != topic or text not in sent:
                wrong.append(f"{commanded} would not send {text} to {topic}")
            continue
        states = states_after(hass, components, topic, text)
        if states != message["states"]:
            wrong.append(f"{topic} {text} makes {states}, not {message['states']}")
    return wrong


async def main(paths):
    hass = HomeAssistant(tempfile.mkdtemp())
    frame.async_setup(hass)  # The schemas look for a running core.
    components, failed = {}, False
    for path in paths:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
        if isinstance(content, list):
            wrong = complaints_about_states(hass, components, content)
            count = f"{len(content)} messages"
        else:
            wrong = complaints_about(content)
            count = f"{len(content['payload']['components'])} components"
            components = components or content["payload"]["components"]
        failed = failed or bool(wrong)
        print(f"{path}: {count}, {'WRONG' if wrong else 'good'}")
        for line in wrong:
            print(f"  {line}")
    await hass.async_stop(force=True)
    return 1 if failed or not paths else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
