// One scenario for each operation of the SDK, by the operation's name; words behind it say what is different.

import access from "./scenarios/access.mjs";
import application from "./scenarios/application.mjs";
import endpoint from "./scenarios/endpoint.mjs";
import eventType from "./scenarios/event_type.mjs";
import integration from "./scenarios/integration.mjs";
import message from "./scenarios/message.mjs";
import messageAttempt from "./scenarios/message_attempt.mjs";
import operationalWebhook from "./scenarios/operational_webhook.mjs";
import poller from "./scenarios/poller.mjs";
import tasks from "./scenarios/tasks.mjs";

const resources = [
  access, application, endpoint, eventType, integration, message, messageAttempt, operationalWebhook, poller, tasks,
];
export const scenarios = Object.assign({}, ...resources);
