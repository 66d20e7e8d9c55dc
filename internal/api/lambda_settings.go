package api

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"countersign"
	"countersign/internal/release"
	"countersign/internal/wire/lambda"
)

// AWS's defaults (lambda-core, section 2).
const (
	defaultTimeout   = 3   // seconds
	defaultMemory    = 128 // MiB
	defaultEphemeral = 512 // MiB
	maxEnvironment   = 4096
)

// runtimeIDs are the identifiers AWS has had, oldest first in each family;
// architecture.md accepts retired ones, because people bring old templates.
var runtimeIDs = []string{
	"nodejs", "nodejs4.3", "nodejs4.3-edge", "nodejs6.10", "nodejs8.10", "nodejs10.x", "nodejs12.x", "nodejs14.x", "nodejs16.x", "nodejs18.x", "nodejs20.x", "nodejs22.x", "nodejs24.x",
	"java8", "java8.al2", "java11", "java17", "java21", "java25",
	"python2.7", "python3.6", "python3.7", "python3.8", "python3.9", "python3.10", "python3.11", "python3.12", "python3.13", "python3.14",
	"dotnetcore1.0", "dotnetcore2.0", "dotnetcore2.1", "dotnetcore3.1", "dotnet6", "dotnet8", "dotnet10",
	"go1.x", "ruby2.5", "ruby2.7", "ruby3.2", "ruby3.3", "ruby3.4", "ruby4.0",
	"provided", "provided.al2", "provided.al2023",
}

// settingsIn is what the two operations that set settings have in common.
type settingsIn struct {
	runtime, role, handler, description, kms *string
	timeout, memory                          *int64
	environment                              *lambda.Environment
	ephemeral                                *lambda.EphemeralStorage
	tracing                                  *lambda.TracingConfig
	logging                                  *lambda.LoggingConfig
	vpc                                      *lambda.VpcConfig
	deadLetter                               *lambda.DeadLetterConfig
	snapStart                                *lambda.SnapStart
	image                                    *lambda.ImageConfig
	files                                    []*lambda.FileSystemConfig
	layers                                   []string
}

func (l *Lambda) newSettings(name string, in *lambda.CreateFunctionRequest) (release.Settings, error) {
	if t := val(in.PackageType); t != "" && t != "Zip" {
		return release.Settings{}, notBuilt("PackageType " + t)
	}
	if in.Runtime == nil || in.Handler == nil {
		return release.Settings{}, countersign.Errorf(countersign.Invalid, "Runtime and Handler are mandatory parameters for functions created with deployment packages.")
	}
	s := release.Settings{
		Timeout: defaultTimeout, Memory: defaultMemory, Ephemeral: defaultEphemeral,
		Tracing: "PassThrough", LogGroup: defaultLogGroup(name), LogFormat: "Text",
	}
	var err error
	if s.Architecture, err = architecture(in.Architectures, defaultArchitecture); err != nil {
		return release.Settings{}, err
	}
	err = l.apply(&s, name, settingsIn{
		in.Runtime, in.Role, in.Handler, in.Description, in.KMSKeyArn, in.Timeout, in.MemorySize, in.Environment, in.EphemeralStorage,
		in.TracingConfig, in.LoggingConfig, in.VpcConfig, in.DeadLetterConfig, in.SnapStart, in.ImageConfig, in.FileSystemConfigs, in.Layers,
	})
	return s, err
}

func (l *Lambda) changeSettings(s *release.Settings, name string, in *lambda.UpdateFunctionConfigurationRequest) error {
	return l.apply(s, name, settingsIn{
		in.Runtime, in.Role, in.Handler, in.Description, in.KMSKeyArn, in.Timeout, in.MemorySize, in.Environment, in.EphemeralStorage,
		in.TracingConfig, in.LoggingConfig, in.VpcConfig, in.DeadLetterConfig, in.SnapStart, in.ImageConfig, in.FileSystemConfigs, in.Layers,
	})
}

func defaultLogGroup(name string) string { return "/aws/lambda/" + name }

// apply changes s by what the caller sent.
func (l *Lambda) apply(s *release.Settings, name string, in settingsIn) error {
	if err := in.unbuilt(); err != nil {
		return err
	}
	if in.runtime != nil {
		if !slices.Contains(runtimeIDs, *in.runtime) {
			return countersign.Errorf(countersign.Invalid, "Value %s at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: [%s] or be a valid ARN", *in.runtime, strings.Join(runtimeIDs, ", "))
		}
		if err := l.Runtimes(*in.runtime); err != nil {
			return err
		}
	}
	set(&s.Runtime, in.runtime)
	set(&s.Role, in.role)
	set(&s.Handler, in.handler)
	set(&s.Description, in.description)
	setInt(&s.Timeout, in.timeout)
	setInt(&s.Memory, in.memory)
	if in.ephemeral != nil {
		setInt(&s.Ephemeral, in.ephemeral.Size)
	}
	if in.tracing != nil {
		set(&s.Tracing, in.tracing.Mode)
	}
	if in.logging != nil {
		set(&s.LogGroup, in.logging.LogGroup)
		if s.LogGroup == "" {
			s.LogGroup = defaultLogGroup(name)
		}
	}
	if in.environment != nil {
		vars := in.environment.Variables
		if err := checkEnvironment(vars); err != nil {
			return err
		}
		s.Environment = vars
		if len(vars) == 0 {
			s.Environment = nil
		}
	}
	return nil
}

func set(to *string, from *string) {
	if from != nil {
		*to = *from
	}
}

func setInt(to *int, from *int64) {
	if from != nil {
		*to = int(*from)
	}
}

// unbuilt refuses what would be accepted and not done.
func (in settingsIn) unbuilt() error {
	switch {
	case in.vpc != nil && len(in.vpc.SubnetIds)+len(in.vpc.SecurityGroupIds) > 0:
		return notBuilt("VpcConfig")
	case in.deadLetter != nil && val(in.deadLetter.TargetArn) != "":
		return notBuilt("DeadLetterConfig")
	case in.snapStart != nil && val(in.snapStart.ApplyOn) == "PublishedVersions":
		return notBuilt("SnapStart")
	case val(in.kms) != "":
		return notBuilt("KMSKeyArn")
	case in.image != nil:
		return notBuilt("ImageConfig")
	case len(in.files) > 0:
		return notBuilt("FileSystemConfigs")
	case len(in.layers) > 0:
		return notBuilt("Layers")
	case in.logging != nil && val(in.logging.LogFormat) == "JSON":
		return notBuilt("LogFormat JSON")
	}
	return nil
}

// reservedKeys are the environment variables Lambda sets itself.
var reservedKeys = []string{
	"_HANDLER", "_X_AMZN_TRACE_ID", "AWS_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_DEFAULT_REGION", "AWS_EXECUTION_ENV",
	"AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_VERSION", "AWS_LAMBDA_INITIALIZATION_TYPE",
	"AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_LAMBDA_RUNTIME_API", "AWS_REGION",
	"AWS_SECRET_ACCESS_KEY", "AWS_SECRET_KEY", "AWS_SESSION_TOKEN", "LAMBDA_RUNTIME_DIR", "LAMBDA_TASK_ROOT",
}

func checkEnvironment(vars map[string]string) error {
	var reserved []string
	for _, k := range reservedKeys {
		if _, ok := vars[k]; ok {
			reserved = append(reserved, k)
		}
	}
	const cannot = "Lambda was unable to configure your environment variables because the environment variables you have provided "
	if len(reserved) > 0 {
		return countersign.Errorf(countersign.Invalid, "%scontains reserved keys that are currently not supported for modification. Reserved keys used in this request: %s", cannot, strings.Join(reserved, ", "))
	}
	text, err := json.Marshal(vars)
	if err != nil {
		return fmt.Errorf("measure environment: %w", err)
	}
	if vars != nil && len(text) > maxEnvironment {
		return countersign.Errorf(countersign.Invalid, "%sexceeded the 4KB limit. String measured: %s", cannot, text)
	}
	return nil
}

// architecture is the one architecture of a function: what was asked for, or
// otherwise. Code for another processor than this machine's cannot run here,
// unless an interpreter brings it its own; saying so early is kinder than a
// crash in the first call, but Python and Node code runs anywhere, and its
// deployers name arm64 for the price: it is kept as asked.
func architecture(asked []string, otherwise string) (string, error) {
	switch {
	case len(asked) == 0:
		return otherwise, nil
	case len(asked) > 1:
		return "", fmt.Errorf("%d architectures passed the constraint of one", len(asked))
	}
	return asked[0], nil
}

// defaultArchitecture is what Lambda assumes; it says nothing of this machine.
const defaultArchitecture = "x86_64"
