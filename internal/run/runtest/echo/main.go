// Command echo is a function written with aws-lambda-go, as a provided
// runtime's bootstrap: it answers with its event. An event {"fail": text}
// fails, {"panic": text} panics.
package main

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/aws/aws-lambda-go/lambda"
)

func main() {
	lambda.Start(func(_ context.Context, event json.RawMessage) (json.RawMessage, error) {
		var do struct{ Fail, Panic string }
		if err := json.Unmarshal(event, &do); err == nil {
			if do.Panic != "" {
				panic(do.Panic)
			}
			if do.Fail != "" {
				return nil, errors.New(do.Fail)
			}
		}
		return event, nil
	})
}
