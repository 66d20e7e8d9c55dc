// Package wire speaks AWS's protocols from the server's side: it finds out
// which operation a request asks for, turns the request into a Go value,
// checks the model's constraints, calls the handler and writes the answer, or
// the refusal, in the form the operation's own clients expect.
//
// It promises that a handler only sees a request that was authenticated,
// decoded without guessing (a wrong JSON type is an error, never a zero) and
// found within every constraint of the model; that one request never makes it
// hold more than the operation's body limit; and that a handler's panic or
// unclassified error is logged and answered without its text.
//
// It trusts nothing a request says before Config.Authenticate has agreed,
// except for choosing which operation to refuse. It knows no policy, no state
// and no service's rules: those are Config's and the handlers'.
//
// Shapes, limits and patterns are generated from AWS's published API models
// into the packages below this one (see gen). The protocols follow the
// protocol tests that are published with the models; what the models do not
// say (error texts, unknown operations, orders of checks) follows recorded
// answers of the real services.
package wire

//go:generate go run ./gen

import (
	"sync"
)

// A Protocol is one of AWS's ways to put an operation on HTTP.
type Protocol int

// The protocols.
const (
	RESTJSON Protocol = iota // method and path name the operation, JSON body
	JSON                     // awsJson 1.0 and 1.1: X-Amz-Target names it, JSON body
	Query                    // Action= names it, form in, XML out
	EC2                      // Query with other spellings
	RESTXML                  // method and path name it, XML body
)

var protocolNames = [...]string{"rest-json", "json", "query", "ec2", "rest-xml"}

// String is the model's word for p.
func (p Protocol) String() string { return protocolNames[p] }

// A Service is one AWS API as its model describes it. The generated packages
// hold one each; everything in it is read-only.
type Service struct {
	Name           string // our word and the model directory's: "lambda"
	SigningName    string // in the credential scope
	EndpointPrefix string // first label of the host
	FullName       string // AWS's name for people
	Version        string // the API version: "2015-03-31"
	Protocol       Protocol
	JSONVersion    string // "1.0" or "1.1" for JSON
	TargetPrefix   string // before the dot of X-Amz-Target, for JSON
	Namespace      string // the XML namespace of answers

	// ValidationCode is the code of a constraint failure, InternalCode that of
	// a failure of ours, where the service has names of its own for them.
	ValidationCode, InternalCode string

	Operations []*Operation // by name
	Shapes     []*Shape     // by name

	once   sync.Once
	shapes map[string]*Shape
	errs   map[string]*Shape // by shape name and by error code
}

// An Operation is one call of a Service.
type Operation struct {
	Name          string
	Method        string // "POST"
	URI           string // path template, with the literal query that belongs to it
	Status        int    // of a success
	Input, Output string // names of structure shapes, "" for none
	ResultWrapper string // element around the output, for Query
	HostPrefix    string // clients may put this before the host name
	Errors        []string
	Deprecated    bool
	Streams       bool // answers or asks with an event stream

	MaxBody     int64  // request bytes accepted; 0 is the server's default
	TooLarge    string // error code beyond MaxBody; "" is the protocol's
	CalledName  string // the name AWS's size message uses; "" is Name
	ContentType string // of a blob answer; "" is application/octet-stream
}

// A Kind is a shape's type.
type Kind uint8

// The kinds.
const (
	Structure Kind = iota
	List
	Map
	String
	Blob
	Boolean
	Integer // 32 bits
	Long    // 64 bits
	Float
	Double
	Timestamp
)

// Scalar reports whether k holds no other shape.
func (k Kind) Scalar() bool { return k > Map }

// A Location is where in a message a member travels.
type Location uint8

// The locations.
const (
	Body Location = iota
	URI
	QueryString
	Header
	HeaderPrefix // a map: every header that starts with the wire name
	StatusCode
)

// A TimeFormat is how a timestamp is written.
type TimeFormat uint8

// The formats. TimeDefault is the protocol's: epoch seconds in JSON,
// RFC 822 in a header, ISO 8601 elsewhere.
const (
	TimeDefault TimeFormat = iota
	TimeEpoch
	TimeISO8601
	TimeRFC822
)

// A Shape is one type of a model, with its constraints.
type Shape struct {
	Name    string
	Kind    Kind
	Members []Member // of a structure, in the model's order
	Payload string   // the member that is the whole body, "" for none
	Elem    Ref      // of a list; a map's value
	Key     Ref      // of a map

	Min, Max       int64 // length of strings (runes), blobs, lists, maps; value of numbers
	HasMin, HasMax bool
	Pattern        *Pattern
	Enum           []string
	Sensitive      bool // never echoed
	Union          bool
	EventStream    bool
	Namespace      string // of the element, with Prefix
	Prefix         string
	Root           string // document element of a REST-XML message

	Error *ErrorTraits // set on errors
}

// ErrorTraits is what the model says about an error.
type ErrorTraits struct {
	Code     string // on the wire, where it is not the shape's name
	Status   int
	Receiver bool // our fault, not the caller's
}

// A Ref is a use of a shape, with what the use adds. The generator has merged
// the target shape's own traits into it.
type Ref struct {
	Shape      string // its name
	WireName   string // the model's locationName; "" is the member's name
	QueryName  string // EC2's request name
	In         Location
	Flat       bool // no element around the items
	Attribute  bool // an XML attribute
	JSONText   bool // a string that holds a JSON document
	TimeFormat TimeFormat
}

// A Member is one member of a structure.
type Member struct {
	Name string // the model's; its Go field is the same, upper-cased
	Ref
	Required bool
	Token    bool // an idempotency token: made up when the caller sends none
}

// prepare indexes s once.
func (s *Service) prepare() {
	s.once.Do(func() {
		s.shapes = make(map[string]*Shape, len(s.Shapes))
		s.errs = make(map[string]*Shape)
		for _, sh := range s.Shapes {
			s.shapes[sh.Name] = sh
			if sh.Error != nil {
				s.errs[sh.Name] = sh
				if sh.Error.Code != "" {
					s.errs[sh.Error.Code] = sh
				}
			}
		}
	})
}

// Shape returns the shape called name, nil when the model has none.
func (s *Service) Shape(name string) *Shape {
	s.prepare()
	return s.shapes[name]
}

// Operation returns the operation called name, nil when the model has none.
func (s *Service) Operation(name string) *Operation {
	for _, op := range s.Operations {
		if op.Name == name {
			return op
		}
	}
	return nil
}

// None is the input of an operation that takes nothing and the output of one
// that answers nothing.
type None struct{}
