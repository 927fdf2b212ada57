"""Queues of a test's own on the shared SQS-compatible server."""

import json
import secrets

import boto3
from botocore.config import Config


class Queues:
    """A queue of submissions, and the dead-letter queue that Switchyard sends to."""

    def __init__(self, server):
        self.server = server
        self.client = boto3.client(
            "sqs",
            endpoint_url=server.endpoint,
            region_name=server.credentials["AWS_REGION"],
            aws_access_key_id=server.credentials["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=server.credentials["AWS_SECRET_ACCESS_KEY"],
            config=Config(proxies={}, retries={"max_attempts": 5}),
        )
        name = f"submissions-{secrets.token_hex(4)}"
        self.url = self.client.create_queue(QueueName=name)["QueueUrl"]
        self.dead_letter_url = self.client.create_queue(QueueName=f"{name}-dead")["QueueUrl"]

    @property
    def environment(self) -> dict[str, str]:
        """What a program of a producer needs to find the server by itself."""
        return {**self.server.credentials, "AWS_ENDPOINT_URL": self.server.endpoint}

    def section(self, **keys) -> dict:
        """The `[[queue]]` of a configuration."""
        section = {
            "name": "submissions",
            "url": self.url,
            "endpoint": self.server.endpoint,
            "region": self.server.credentials["AWS_REGION"],
            "dead_letter_url": self.dead_letter_url,
            "receivers": 1,
            "wait_s": 1,
            "visibility_s": 5,
        }
        return {**section, **keys}

    def send(self, document: dict | str, **beside: str) -> str:
        """Sends one submission (or any text), with these attributes beside it; the message's id."""
        body = document if isinstance(document, str) else json.dumps(document)
        attributes = {name: {"DataType": "String", "StringValue": text} for name, text in beside.items()}
        return self.client.send_message(QueueUrl=self.url, MessageBody=body, MessageAttributes=attributes)["MessageId"]

    def waiting(self) -> int:
        """How many messages there are, visible or in flight."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = self.client.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)
        return sum(int(count) for count in answer["Attributes"].values())

    def dead_letters(self) -> list[dict]:
        """Everything in the dead-letter queue: body and attributes. It is emptied."""
        found = []
        while True:
            answer = self.client.receive_message(
                QueueUrl=self.dead_letter_url,
                MaxNumberOfMessages=10,
                MessageAttributeNames=["All"],
                VisibilityTimeout=300,
            )
            messages = answer.get("Messages", [])
            if not messages:
                return found
            entries = [{"Id": str(i), "ReceiptHandle": m["ReceiptHandle"]} for i, m in enumerate(messages)]
            self.client.delete_message_batch(QueueUrl=self.dead_letter_url, Entries=entries)
            found += [
                {
                    "body": message["Body"],
                    **{name: value.get("StringValue") for name, value in message.get("MessageAttributes", {}).items()},
                }
                for message in messages
            ]

    def delete(self) -> None:
        """Removes both queues."""
        for url in (self.url, self.dead_letter_url):
            self.client.delete_queue(QueueUrl=url)
