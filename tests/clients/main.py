"""What a user of the generated Python client writes: makes a tenant, publishes, and reads what it published."""

import os
import time

import jalur

configuration = jalur.Configuration(host=os.environ["JALUR_URL"], access_token=os.environ["JALUR_ADMIN_TOKEN"])
with jalur.ApiClient(configuration) as client:
    tenants, messages = jalur.TenantApi(client), jalur.MessageApi(client)
    tenant = tenants.create_tenant(jalur.CreateTenantRequest(name="python client"))
    published = messages.publish_messages(
        tenant.id,
        jalur.PublishMessagesRequest(
            messages=[jalur.MessageToPublish(payload={"order": 1}), jalur.MessageToPublish(payload="two")]
        ),
    )
    read, cursor, until = {}, "0", time.monotonic() + 60
    while len(read) < 2:
        assert time.monotonic() < until, "the messages did not arrive within a minute"
        page = messages.list_messages(tenant.id, cursor=cursor, limit=10)
        read.update((message.id, message.payload) for message in page.data)
        cursor = page.next_cursor
        time.sleep(0.02)
    assert read[published.ids[1]] == "two", read
    tenants.delete_tenant(tenant.id)
    # An error has its status, and says why.
    try:
        tenants.get_tenant(tenant.id)
        raise AssertionError("a tenant that is gone is answered")
    except jalur.ApiException as error:
        assert error.status == 404 and "does not exist" in error.body, error
print("python: created, published, read, deleted")
