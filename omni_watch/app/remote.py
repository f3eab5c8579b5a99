"""The house as those see it who ask over MQTT: the same words, tasks and answers as for the voice."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from omni_watch.app.wishes import TaskWish, task_from
from omni_watch.domain.rules import Repeat
from omni_watch.domain.tasks import Task
from omni_watch.home_assistant.asked import Args
from omni_watch.home_assistant.carrying_out import House
from omni_watch.watch import requests
from omni_watch.watch.conversing import Household
from omni_watch.watch.ports import TextSimilarity

SET_BY = "mqtt"


def house_for_mqtt(household: Household, similarity: TextSimilarity | None) -> House:
    """`household` is the voice's. What is written need not call the house by its name."""

    def new_task(args: Args, now: datetime) -> Task:
        wish = TaskWish(
            feeds=args.feeds or (),
            message=args.message,
            repeat=None if args.once is None else Repeat.ONCE if args.once else Repeat.EACH,
            priority=args.priority,
            cooldown_s=None if args.cooldown_s is None else float(args.cooldown_s),
            expires_in=None if args.expires_in_s is None else timedelta(seconds=args.expires_in_s),
        )
        return task_from(
            args.text or "",
            task_id=requests.new_task_id(),
            set_by=SET_BY,
            now=now,
            book=household.book.book,
            similarity=similarity,
            wish=wish,
        )

    return House(household=replace(household, set_by=SET_BY, is_name_needed=False), new_task=new_task)
