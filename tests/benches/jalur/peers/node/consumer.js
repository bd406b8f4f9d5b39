// A batched consumer as one would write it: whatever has come, up to 500 rows an INSERT, one `multiple` ack a batch.
// It ends when it has stored COUNT messages of QUEUES, and prints how many seconds that took from the first consumer on.
const amqp = require('amqplib')
const pg = require('pg')

const { AMQP_URL, DATABASE_URL, QUEUES, COUNT, BATCH, PREFETCH } = process.env

async function main() {
  const database = new pg.Client(DATABASE_URL)
  await database.connect()
  const connection = await amqp.connect(AMQP_URL)
  const channel = await connection.createChannel()
  await channel.prefetch(Number(PREFETCH))

  const waiting = []
  let left = Number(COUNT)
  let storing = false

  async function store() {
    if (storing) return
    storing = true
    while (waiting.length > 0) {
      const batch = waiting.splice(0, Number(BATCH))
      await database.query(
        `insert into peer (id, tenant_id, payload)
         select * from unnest($1::uuid[], $2::uuid[], $3::jsonb[]) on conflict do nothing`,
        [
          batch.map(message => message.properties.messageId),
          batch.map(message => message.fields.routingKey.slice('peer_'.length)),
          batch.map(message => message.content.toString()),
        ],
      )
      channel.ack(batch.at(-1), true)
      left -= batch.length
    }
    storing = false
    if (left === 0) finish()
  }

  const started = process.hrtime.bigint()
  async function finish() {
    const seconds = Number(process.hrtime.bigint() - started) / 1e9
    await channel.close()
    await connection.close()
    await database.end()
    console.log(seconds)
  }

  for (const queue of QUEUES.split(',')) {
    await channel.consume(queue, message => {
      waiting.push(message)
      store().catch(fail)
    })
  }
}

function fail(error) {
  console.error(error)
  process.exit(1)
}

main().catch(fail)
