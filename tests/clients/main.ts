// What a user of the generated TypeScript client writes: makes a tenant, publishes, and reads what it published.
import { Configuration, MessageApi, ResponseError, TenantApi } from "./jalur";

async function main(): Promise<void> {
  const configuration = new Configuration({
    basePath: process.env.JALUR_URL,
    accessToken: process.env.JALUR_ADMIN_TOKEN,
  });
  const tenants = new TenantApi(configuration);
  const messages = new MessageApi(configuration);

  const tenant = await tenants.createTenant({ createTenantRequest: { name: "typescript client" } });
  const published = await messages.publishMessages({
    tenantId: tenant.id,
    publishMessagesRequest: { messages: [{ payload: { order: 1 } }, { payload: "two" }] },
  });
  const read = new Map<string, unknown>();
  let cursor = "0";
  const until = Date.now() + 60_000;
  while (read.size < 2) {
    if (Date.now() > until) throw new Error("the messages did not arrive within a minute");
    const page = await messages.listMessages({ tenantId: tenant.id, cursor, limit: 10 });
    for (const message of page.data) read.set(message.id, message.payload);
    cursor = page.nextCursor;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const second = read.get(published.ids[1] ?? "");
  if (second !== "two") throw new Error(`the second message is ${JSON.stringify(second)}`);
  await tenants.deleteTenant({ id: tenant.id });
  // An error has its status, and says why.
  const gone = await tenants.getTenant({ id: tenant.id }).catch((error: unknown) => error);
  if (!(gone instanceof ResponseError) || gone.response.status !== 404) {
    throw new Error(`a tenant that is gone is ${String(gone)}`);
  }
  console.log("typescript: created, published, read, deleted");
}

main().catch((error: unknown) => {
  console.error(error);
  process.exit(1);
});
