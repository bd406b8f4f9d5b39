// What the API answers, as far as the console uses it. See docs/openapi.json.

/** @typedef {"admin" | "tenant_admin" | "tenant"} Role */
/** @typedef {"active" | "paused" | "creating"} Status */

/**
 * @typedef {object} Trouble
 * @property {string} kind
 * @property {string} detail
 * @property {string} since
 */

/**
 * @typedef {object} Consumer
 * @property {string} daemon
 * @property {number} workers
 * @property {number} busy
 */

/**
 * What is absent could not be asked for at the moment.
 * @typedef {object} Runtime
 * @property {Consumer[]} [consumers]
 * @property {number} [queue_depth]
 * @property {number} [dead_letters]
 * @property {number} [retrying]
 * @property {number} [stored_per_second]
 * @property {Trouble} [problem]
 */

/**
 * @typedef {object} Limits
 * @property {number} [publish_per_second]
 * @property {number} [store_per_second]
 * @property {number} [backlog_messages]
 * @property {string} [backlog_bytes]
 */

/**
 * @typedef {object} Retention
 * @property {number} [max_age_seconds]
 * @property {number} [max_messages]
 */

/**
 * @typedef {object} Tenant
 * @property {string} id
 * @property {string} name
 * @property {string} description
 * @property {Status} status
 * @property {number} workers
 * @property {string} created_at
 * @property {string} updated_at
 * @property {Runtime} [runtime]
 * @property {Limits} [limits]
 * @property {Retention} [retention]
 */

/**
 * `payload` is the text of a JSON value, as it came.
 * @typedef {object} Message
 * @property {string} id
 * @property {string} tenant_id
 * @property {string} position
 * @property {string} payload
 * @property {string} created_at
 */

/**
 * @typedef {object} DeadLetter
 * @property {string} id
 * @property {string} reason
 * @property {string} detail
 * @property {number} attempts
 * @property {string} [first_failed_at]
 * @property {string} [failed_at]
 * @property {string} payload
 * @property {string} [encoding]
 * @property {number | string} bytes
 * @property {boolean} [truncated]
 * @property {string} [headers] a JSON object's text; not in lists
 */

/**
 * @typedef {object} Credential
 * @property {string} client_id
 * @property {"tenant" | "tenant_admin"} role
 * @property {string} label
 * @property {boolean} amqp
 * @property {string} created_at
 * @property {string} [last_used_at]
 */

/**
 * @typedef {object} NewCredential
 * @property {string} client_id
 * @property {string} client_secret
 * @property {{url: string, exchange: string}} [amqp]
 */

/**
 * @typedef {object} Daemon
 * @property {string} id
 * @property {"ready" | "draining"} state
 * @property {number} capacity
 * @property {number} lanes
 * @property {number} workers
 * @property {string} joined_at
 */

/**
 * @typedef {object} AuditEvent
 * @property {string} position
 * @property {string} at
 * @property {string} request_id
 * @property {string} [sub]
 * @property {string} [role]
 * @property {string} [caller_tenant_id]
 * @property {string} [credential]
 * @property {string} [address]
 * @property {string} method
 * @property {string} [tenant_id]
 * @property {string} summary
 * @property {string} [code]
 * @property {string} [message]
 * @property {string} left_out
 */

export {};
