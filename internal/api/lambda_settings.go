package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"countersign"
	"countersign/internal/release"
	"countersign/internal/wire"
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

// maxTimeout is in seconds. AWS says no to more in the words of its model,
// which does not state it.
const maxTimeout = 900

func (l *Lambda) newSettings(name string, in *lambda.CreateFunctionRequest) (release.Settings, error) {
	if t := val(in.PackageType); t != "" && t != "Zip" {
		return release.Settings{}, notBuilt("PackageType " + t)
	}
	if in.Runtime == nil || in.Handler == nil {
		return release.Settings{}, countersign.Errorf(countersign.Invalid, "Runtime and Handler are mandatory parameters for functions created with deployment packages.")
	}
	s := release.Settings{
		Timeout: defaultTimeout, Memory: defaultMemory, Ephemeral: defaultEphemeral, Architecture: architecture(in.Architectures, defaultArchitecture),
		Tracing: "PassThrough", LogGroup: "/aws/lambda/" + name, LogFormat: "Text",
	}
	// Creating is changing the defaults.
	err := l.changeSettings(&s, &lambda.UpdateFunctionConfigurationRequest{
		DeadLetterConfig:  in.DeadLetterConfig,
		Description:       in.Description,
		Environment:       in.Environment,
		EphemeralStorage:  in.EphemeralStorage,
		FileSystemConfigs: in.FileSystemConfigs,
		Handler:           in.Handler,
		ImageConfig:       in.ImageConfig,
		KMSKeyArn:         in.KMSKeyArn,
		Layers:            in.Layers,
		LoggingConfig:     in.LoggingConfig,
		MemorySize:        in.MemorySize,
		Role:              in.Role,
		Runtime:           in.Runtime,
		SnapStart:         in.SnapStart,
		Timeout:           in.Timeout,
		TracingConfig:     in.TracingConfig,
		VpcConfig:         in.VpcConfig,
	})
	return s, err
}

// changeSettings changes s by what the caller sent.
func (l *Lambda) changeSettings(s *release.Settings, in *lambda.UpdateFunctionConfigurationRequest) error {
	if err := unbuilt(in); err != nil {
		return err
	}
	if n := val(in.Timeout); n > maxTimeout {
		return &wire.Fault{Code: "ValidationException", Message: fmt.Sprintf(
			"1 validation error detected: Value '%d' at 'timeout' failed to satisfy constraint: Member must have value less than or equal to %d", n, maxTimeout)}
	}
	if in.Runtime != nil {
		if !slices.Contains(runtimeIDs, *in.Runtime) {
			return countersign.Errorf(countersign.Invalid, "Value %s at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: [%s] or be a valid ARN", *in.Runtime, strings.Join(runtimeIDs, ", "))
		}
		if err := l.Runtimes(*in.Runtime); err != nil {
			return err
		}
	}
	set(&s.Runtime, in.Runtime)
	set(&s.Role, in.Role)
	set(&s.Handler, in.Handler)
	set(&s.Description, in.Description)
	setInt(&s.Timeout, in.Timeout)
	setInt(&s.Memory, in.MemorySize)
	if in.EphemeralStorage != nil {
		setInt(&s.Ephemeral, in.EphemeralStorage.Size)
	}
	if in.TracingConfig != nil {
		set(&s.Tracing, in.TracingConfig.Mode)
	}
	if in.LoggingConfig != nil {
		set(&s.LogGroup, in.LoggingConfig.LogGroup)
	}
	if in.Environment != nil {
		vars := in.Environment.Variables
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
func unbuilt(in *lambda.UpdateFunctionConfigurationRequest) error {
	switch {
	case in.VpcConfig != nil && len(in.VpcConfig.SubnetIds)+len(in.VpcConfig.SecurityGroupIds) > 0:
		return notBuilt("VpcConfig")
	case in.DeadLetterConfig != nil && val(in.DeadLetterConfig.TargetArn) != "":
		return notBuilt("DeadLetterConfig")
	case in.SnapStart != nil && val(in.SnapStart.ApplyOn) == "PublishedVersions":
		return notBuilt("SnapStart")
	case val(in.KMSKeyArn) != "":
		return notBuilt("KMSKeyArn")
	case in.ImageConfig != nil:
		return notBuilt("ImageConfig")
	case len(in.FileSystemConfigs) > 0:
		return notBuilt("FileSystemConfigs")
	case len(in.Layers) > 0:
		return notBuilt("Layers")
	case in.LoggingConfig != nil && val(in.LoggingConfig.LogFormat) == "JSON":
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
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false) // "<" is one character of the limit, not six
	if err := enc.Encode(vars); err != nil {
		return fmt.Errorf("measure environment: %w", err)
	}
	if text.Truncate(text.Len() - len("\n")); text.Len() > maxEnvironment {
		return countersign.Errorf(countersign.Invalid, "%sexceeded the 4KB limit. String measured: %s", cannot, text.String())
	}
	return nil
}

// architecture is the one architecture of a function: what was asked for,
// which the model's constraint has kept to one, or otherwise. It says nothing
// of this machine: Python and Node code runs anywhere, and its deployers name
// arm64 for the price.
func architecture(asked []string, otherwise string) string {
	if len(asked) == 0 {
		return otherwise
	}
	return asked[0]
}

// defaultArchitecture is what Lambda assumes.
const defaultArchitecture = "x86_64"
