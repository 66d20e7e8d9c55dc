package objects

import (
	"net/http"
	"strings"
	"testing"
)

func TestSettings(t *testing.T) {
	f := testGateway(t)
	f.bucket("set")
	do := func(method, query, body string) (int, string) {
		t.Helper()
		return raw(t, sign{}.request(t, method, f.url+"/set?"+query, body))
	}
	for _, c := range []struct {
		query, body string // of a PUT that asks for something
		get         int
		answer      string
		put, del    int
	}{
		{"lifecycle", `<LifecycleConfiguration><Rule><Status>Enabled</Status></Rule></LifecycleConfiguration>`, 404, "<Code>NoSuchLifecycleConfiguration</Code>", 501, 204},
		{"replication", `<ReplicationConfiguration/>`, 404, "<Code>ReplicationConfigurationNotFoundError</Code>", 501, 204},
		{"encryption", `<ServerSideEncryptionConfiguration/>`, 404, "<Code>ServerSideEncryptionConfigurationNotFoundError</Code>", 501, 204},
		{"website", `<WebsiteConfiguration/>`, 404, "<Code>NoSuchWebsiteConfiguration</Code>", 501, 204},
		{"cors", `<CORSConfiguration/>`, 404, "<Code>NoSuchCORSConfiguration</Code>", 501, 204},
		{"notification", `<NotificationConfiguration><EventBridgeConfiguration/></NotificationConfiguration>`, 200, "<NotificationConfiguration ", 501, 501},
		{"accelerate", `<AccelerateConfiguration><Status>Enabled</Status></AccelerateConfiguration>`, 200, "<AccelerateConfiguration ", 501, 501},
		{"requestPayment", `<RequestPaymentConfiguration><Payer>Requester</Payer></RequestPaymentConfiguration>`, 200, "<Payer>BucketOwner</Payer>", 501, 501},
		{"logging", `<BucketLoggingStatus><LoggingEnabled/></BucketLoggingStatus>`, 200, "<BucketLoggingStatus ", 501, 501},
		{"analytics", `<AnalyticsConfiguration/>`, 501, "GetBucketAnalyticsConfiguration is not implemented", 501, 501},
		{"metrics&id=x", `<MetricsConfiguration/>`, 501, "GetBucketMetricsConfiguration is not implemented", 501, 501},
		{"inventory", `<InventoryConfiguration/>`, 501, "GetBucketInventoryConfiguration is not implemented", 501, 501},
		{"intelligent-tiering", `<IntelligentTieringConfiguration/>`, 501, "GetBucketIntelligentTieringConfiguration is not implemented", 501, 501},
		{"metadataTable", `<x/>`, 501, "GetBucketMetadataTableConfiguration is not implemented", 501, 501},
	} {
		if got, body := do("PUT", c.query, c.body); got != c.put || got == 501 && !strings.Contains(body, "<Code>NotImplemented</Code>") {
			t.Errorf("PUT %s: got %d %s, want %d", c.query, got, body, c.put)
		}
		if got, body := do("GET", c.query, ""); got != c.get || !strings.Contains(body, c.answer) {
			t.Errorf("GET %s: got %d %s, want %d %s", c.query, got, body, c.get, c.answer)
		}
		if got, body := do("DELETE", c.query, ""); got != c.del {
			t.Errorf("DELETE %s: got %d %s, want %d", c.query, got, body, c.del)
		}
		// None of it without a right signature, or for a bucket that is not there.
		for _, method := range []string{"GET", "PUT", "DELETE"} {
			wantAnswer(t, method+" "+c.query+" with a wrong secret", sign{secret: "x"}.request(t, method, f.url+"/set?"+c.query, ""), 403, "<Code>SignatureDoesNotMatch</Code>")
			wantAnswer(t, method+" "+c.query+" by another account", sign{key: otherKey, secret: otherSecret}.request(t, method, f.url+"/set?"+c.query, ""), 403, "<Code>AccessDenied</Code>")
			wantAnswer(t, method+" "+c.query+" of no bucket", sign{}.request(t, method, f.url+"/nobucket?"+c.query, ""), 404, "<Code>NoSuchBucket</Code>")
		}
	}
	for _, c := range []struct{ query, body string }{
		{"notification", `<NotificationConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"/>`},
		{"logging", `<BucketLoggingStatus/>`},
		{"requestPayment", `<RequestPaymentConfiguration><Payer>BucketOwner</Payer></RequestPaymentConfiguration>`},
		{"ownershipControls", `<OwnershipControls><Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule></OwnershipControls>`},
	} {
		if got, body := do("PUT", c.query, c.body); got != 200 {
			t.Errorf("PUT %s of what is so: got %d %s", c.query, got, body)
		}
	}
	if got, body := do("PUT", "ownershipControls", `<OwnershipControls><Rule><ObjectOwnership>ObjectWriter</ObjectOwnership></Rule></OwnershipControls>`); got != 501 {
		t.Errorf("PUT ownershipControls ObjectWriter: got %d %s", got, body)
	}
	if got, body := do("GET", "ownershipControls", ""); got != 200 || !strings.Contains(body, "BucketOwnerEnforced") {
		t.Errorf("GET ownershipControls: got %d %s", got, body)
	}
}

func TestPublicAccessBlockIsKept(t *testing.T) {
	f := testGateway(t)
	f.bucket("block")
	url := f.url + "/block?publicAccessBlock"
	wantAnswer(t, "default", sign{}.request(t, "GET", url, ""), 200, "<BlockPublicPolicy>true</BlockPublicPolicy>")
	wantAnswer(t, "malformed", sign{}.request(t, "PUT", url, "<nonsense/>"), 400, "<Code>MalformedXML</Code>")
	wantAnswer(t, "put", sign{}.request(t, "PUT", url, `<PublicAccessBlockConfiguration><BlockPublicAcls>true</BlockPublicAcls></PublicAccessBlockConfiguration>`), 200)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	f.open()
	url = f.url + "/block?publicAccessBlock"
	wantAnswer(t, "kept", sign{}.request(t, "GET", url, ""), 200, "<BlockPublicAcls>true</BlockPublicAcls>", "<BlockPublicPolicy>false</BlockPublicPolicy>")
	wantAnswer(t, "delete", sign{}.request(t, "DELETE", url, ""), http.StatusNoContent)
	wantAnswer(t, "deleted", sign{}.request(t, "GET", url, ""), 404, "<Code>NoSuchPublicAccessBlockConfiguration</Code>")
	wantAnswer(t, "delete bucket", sign{}.request(t, "DELETE", f.url+"/block", ""), http.StatusNoContent)
	f.bucket("block")
	wantAnswer(t, "gone with its bucket", sign{}.request(t, "GET", url, ""), 200, "<BlockPublicPolicy>true</BlockPublicPolicy>")
}
