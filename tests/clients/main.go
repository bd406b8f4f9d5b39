// What a user of the generated Go client writes: makes a tenant, publishes, and reads what it published.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"client/jalur"
)

func main() {
	configuration := jalur.NewConfiguration()
	configuration.Servers = jalur.ServerConfigurations{{URL: os.Getenv("JALUR_URL")}}
	client := jalur.NewAPIClient(configuration)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ctx = context.WithValue(ctx, jalur.ContextAccessToken, os.Getenv("JALUR_ADMIN_TOKEN"))

	tenant, _, err := client.TenantAPI.CreateTenant(ctx).
		CreateTenantRequest(*jalur.NewCreateTenantRequest("go client")).Execute()
	if err != nil {
		log.Fatal(err)
	}
	messages := []jalur.MessageToPublish{
		*jalur.NewMessageToPublish(map[string]interface{}{"order": 1}),
		*jalur.NewMessageToPublish("two"),
	}
	published, _, err := client.MessageAPI.PublishMessages(ctx, tenant.GetId()).
		PublishMessagesRequest(*jalur.NewPublishMessagesRequest(messages)).Execute()
	if err != nil {
		log.Fatal(err)
	}
	cursor, read := "0", map[string]interface{}{}
	for len(read) < len(messages) {
		page, _, err := client.MessageAPI.ListMessages(ctx, tenant.GetId()).Cursor(cursor).Limit(10).Execute()
		if err != nil {
			log.Fatal(err)
		}
		for _, message := range page.GetData() {
			read[message.GetId()] = message.GetPayload()
		}
		cursor = page.GetNextCursor()
		time.Sleep(20 * time.Millisecond)
	}
	if text := fmt.Sprint(read[published.GetIds()[1]]); text != "two" {
		log.Fatalf("the second message is %q", text)
	}
	if _, _, err := client.TenantAPI.DeleteTenant(ctx, tenant.GetId()).Execute(); err != nil {
		log.Fatal(err)
	}
	// An error has its status, and says why.
	_, answer, err := client.TenantAPI.GetTenant(ctx, tenant.GetId()).Execute()
	if err == nil || answer.StatusCode != 404 {
		log.Fatalf("a tenant that is gone is %v", answer)
	}
	fmt.Println("go: created, published, read, deleted")
}
