package main

import (
	"encoding/json"
	"fmt"
	"slices"
)

// The models are of 2024; what the live services answer has moved on in a few
// places, and some of what they answer was never in a model. Each line says
// what is different and where that is recorded: these are observations of the
// service, not wishes of ours.

// serviceTraits is what no model says about a service as a whole.
type serviceTraits struct {
	validation, internal string
}

var services = map[string]serviceTraits{
	"lambda": {validation: "ValidationException", internal: "ServiceException"},
	"signer": {validation: "ValidationException", internal: "InternalServiceErrorException"},
	// CloudWatch Logs words constraint failures as everybody does and calls
	// them InvalidParameterException.
	"logs": {validation: "InvalidParameterException", internal: "ServiceUnavailableException"},
	"sts":  {validation: "ValidationError", internal: "InternalFailure"},
}

// defaults are the codes of a protocol without a line above.
var defaults = map[string]serviceTraits{
	"rest-json": {validation: "ValidationException", internal: "InternalServerException"},
	"json":      {validation: "ValidationException", internal: "InternalFailure"},
	"query":     {validation: "ValidationError", internal: "InternalFailure"},
	"ec2":       {validation: "InvalidParameterValue", internal: "InternalError"},
	"rest-xml":  {validation: "InvalidArgument", internal: "InternalError"},
}

type override struct {
	what string // for the error when it no longer applies
	do   func(m *model) bool
}

const regionRE = `(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}`

var overrides = map[string][]override{
	"lambda": {
		// Function names as create and as the rest see them: newer partitions
		// in the Region, dots in namespaced names, the published $LATEST.
		pattern("FunctionName", `(arn:(aws[a-zA-Z-]*)?:lambda:)?(`+regionRE+`:)?(\d{12}:)?(function:)?([a-zA-Z0-9-_]+)(:(\$LATEST|[a-zA-Z0-9-_]+))?`),
		pattern("NamespacedFunctionName", `(arn:(aws[a-zA-Z-]*)?:lambda:)?(`+regionRE+`:)?(\d{12}:)?(function:)?([a-zA-Z0-9-_\.]+)(:(\$LATEST(\.PUBLISHED)?|[a-zA-Z0-9-_]+))?`),
		length("NamespacedFunctionName", "1", "256"),
		pattern("Qualifier", `\$(LATEST(\.PUBLISHED)?)|[a-zA-Z0-9-_$]+`),
		length("Qualifier", "1", "128"),
		// Code signing configurations take tags, at creation and through the
		// tag operations.
		add("CreateCodeSigningConfigRequest", "Tags", "Tags"),
		pattern("FunctionArn", `arn:(aws[a-zA-Z-]*):lambda:`+regionRE+`:\d{12}:(function:[a-zA-Z0-9-_]+(:(\$LATEST|[a-zA-Z0-9-_]+))?|layer:([a-zA-Z0-9-_]+)|code-signing-config:csc-[a-z0-9]{17}|event-source-mapping:[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}|capacity-provider:[a-zA-Z0-9-_]+)`),
		// Delete takes the names get and invoke take.
		reshape("DeleteFunctionRequest", "FunctionName", "NamespacedFunctionName"),
		// Malformed network ids are refused before EC2 is asked.
		pattern("SubnetId", `subnet-[0-9a-z]*`),
		pattern("SecurityGroupId", `sg-[0-9a-zA-Z]*`),
		// A runtime outlives the model's list; the sentence for an unknown one
		// is the service's own.
		enum("Runtime"),
		// Sizes the front end enforces, with the names it uses for the calls.
		body("CreateFunction", 70167211, "RequestEntityTooLargeException", ""),
		body("UpdateFunctionCode", 70167211, "RequestEntityTooLargeException", ""),
		body("PublishLayerVersion", 70167211, "RequestEntityTooLargeException", ""),
		body("Invoke", 6291456, "RequestTooLargeException", "InvokeFunction"),
		// A function's answer is labelled as JSON whatever it is.
		{"Invoke's content type", func(m *model) bool {
			op := m.Operations.get("Invoke")
			op.contentType = "application/json"
			m.Operations.set("Invoke", op)
			return op.Name != ""
		}},
	},
	"signer": {
		// Terraform sends an empty map where there are no tags, and is served.
		length("TagMap", "0", "200"),
		// Real categories and hashes lie outside the model's enums: "AWS", "SHA384".
		enum("Category"),
		enum("HashAlgorithm"),
		{"GetRevocationStatus's host", func(m *model) bool {
			op := m.Operations.get("GetRevocationStatus")
			op.Endpoint.HostPrefix = "data-" // "verification." before
			m.Operations.set("GetRevocationStatus", op)
			return op.Name != ""
		}},
	},
	"sts": {
		// STS takes a form of ten million bytes, and no more.
		everyBody(10_000_000),
		// Recorded answers have the members in this order.
		{"order of GetCallerIdentity's answer", func(m *model) bool {
			s := m.Shapes.get("GetCallerIdentityResponse")
			s.Members.keys = []string{"Arn", "UserId", "Account"}
			return len(s.Members.m) == len(s.Members.keys)
		}},
	},
}

func pattern(name, re string) override {
	return override{"pattern of " + name, func(m *model) bool {
		s := m.Shapes.get(name)
		if s == nil {
			return false
		}
		s.Pattern = re
		return true
	}}
}

func length(name, min, max string) override {
	return override{"length of " + name, func(m *model) bool {
		s := m.Shapes.get(name)
		if s == nil {
			return false
		}
		lo, hi := json.Number(min), json.Number(max)
		s.Min, s.Max = &lo, &hi
		return true
	}}
}

// enum drops an enum: the values are plain strings.
func enum(name string) override {
	return override{"enum of " + name, func(m *model) bool {
		s := m.Shapes.get(name)
		if s == nil || len(s.Enum) == 0 {
			return false
		}
		s.Enum = nil
		return true
	}}
}

// reshape points a member at another shape.
func reshape(structure, member, to string) override {
	return override{structure + "." + member, func(m *model) bool {
		s := m.Shapes.get(structure)
		if s == nil || m.Shapes.get(to) == nil {
			return false
		}
		r := s.Members.get(member)
		r.Shape = to
		s.Members.set(member, r)
		return true
	}}
}

// add gives a structure a member the model does not have.
func add(structure, member, shape string) override {
	return override{structure + "." + member, func(m *model) bool {
		s := m.Shapes.get(structure)
		if s == nil || m.Shapes.get(shape) == nil || slices.Contains(s.Members.keys, member) {
			return false
		}
		s.Members.set(member, ref{Shape: shape})
		return true
	}}
}

func body(name string, max int64, code, called string) override {
	return override{"body limit of " + name, func(m *model) bool {
		op, ok := m.Operations.m[name]
		op.maxBody, op.tooLarge, op.calledName = max, code, called
		m.Operations.set(name, op)
		return ok
	}}
}

func everyBody(max int64) override {
	return override{"body limits", func(m *model) bool {
		for _, name := range m.Operations.keys {
			op := m.Operations.get(name)
			op.maxBody = max
			m.Operations.set(name, op)
		}
		return true
	}}
}

// apply changes m as the table says. A line that finds nothing to change is
// an error: the model has caught up, and the line should go.
func apply(service string, m *model) error {
	for _, o := range overrides[service] {
		if !o.do(m) {
			return fmt.Errorf("override %s of %s changes nothing", o.what, service)
		}
	}
	return nil
}
