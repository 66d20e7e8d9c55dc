package objects

import (
	"bytes"
	"context"
	"countersign/internal/testenv"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A shell runs other people's clients against a fixture, with an empty home.
type shell struct {
	f    *fixture
	dir  string
	home string
	env  []string
}

func (f *fixture) shell(region string) *shell {
	home := f.t.TempDir()
	s := &shell{f: f, dir: f.t.TempDir(), home: home}
	for _, kv := range os.Environ() {
		if k, _, _ := strings.Cut(kv, "="); !strings.HasPrefix(k, "AWS_") && k != "HOME" {
			s.env = append(s.env, kv)
		}
	}
	// The tools may be shims that look for their versions under the real home.
	if real, err := os.UserHomeDir(); err == nil && os.Getenv("PYENV_ROOT") == "" {
		s.env = append(s.env, "PYENV_ROOT="+filepath.Join(real, ".pyenv"))
	}
	s.env = append(s.env, "HOME="+home, "AWS_ENDPOINT_URL="+f.url, "AWS_ACCESS_KEY_ID="+testKey, "AWS_SECRET_ACCESS_KEY="+testSecret,
		"AWS_DEFAULT_REGION="+region, "AWS_REGION="+region, "AWS_EC2_METADATA_DISABLED=true", "AWS_PAGER=", "AWS_MAX_ATTEMPTS=1")
	return s
}

func (s *shell) try(args ...string) (string, int) {
	s.f.t.Helper()
	ctx, cancel := context.WithTimeout(s.f.t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir, cmd.Env = s.dir, s.env
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if cmd.ProcessState == nil {
		s.f.t.Fatalf("%v: %v", args, err)
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

func (s *shell) run(args ...string) string {
	s.f.t.Helper()
	out, code := s.try(args...)
	if code != 0 {
		s.f.t.Fatalf("%s: exit %d\n%s", strings.Join(args, " "), code, out)
	}
	return out
}

// fails checks that the command exits non-zero and says part.
func (s *shell) fails(part string, args ...string) {
	s.f.t.Helper()
	if out, code := s.try(args...); code == 0 || !strings.Contains(out, part) {
		s.f.t.Errorf("%s: exit %d, want a failure that says %q\n%s", strings.Join(args, " "), code, part, out)
	}
}

func (s *shell) write(name string, body []byte) {
	s.f.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		s.f.t.Fatal(err)
	}
	if err := os.WriteFile(path, body, 0o600); err != nil {
		s.f.t.Fatal(err)
	}
}

func (s *shell) same(a, b string) {
	s.f.t.Helper()
	x, err := os.ReadFile(filepath.Join(s.dir, a))
	if err != nil {
		s.f.t.Fatal(err)
	}
	if y, err := os.ReadFile(filepath.Join(s.dir, b)); err != nil || !bytes.Equal(x, y) {
		s.f.t.Errorf("%s and %s differ (%v)", a, b, err)
	}
}

func TestAWSCommandLine(t *testing.T) {
	if testing.Short() {
		t.Skip("starts the aws CLI thirty times")
	}
	testenv.Tool(t, "aws")
	f := testGateway(t)
	s := f.shell("eu-central-1")
	s.write("small.txt", []byte("hello\n"))
	s.write("big.bin", bytes.Repeat([]byte("0123456789abcdef"), 20<<16)) // 20 MB: several parts
	s.write("tree/a.txt", []byte("a"))
	s.write("tree/sub/b.txt", []byte("b"))
	s.run("aws", "s3", "mb", "s3://cli-bucket")
	s.run("aws", "s3", "cp", "small.txt", "s3://cli-bucket/dir/small.txt")
	s.run("aws", "s3", "cp", "big.bin", "s3://cli-bucket/big.bin")
	s.run("aws", "s3", "cp", "s3://cli-bucket/big.bin", "big.back")
	s.same("big.bin", "big.back")
	s.run("aws", "s3", "cp", "s3://cli-bucket/big.bin", "s3://cli-bucket/big.copy")
	s.run("aws", "s3", "sync", "tree", "s3://cli-bucket/tree")
	s.run("aws", "s3", "sync", "s3://cli-bucket/tree", "back")
	s.same("tree/sub/b.txt", "back/sub/b.txt")
	if out := s.run("aws", "s3", "ls", "--recursive", "s3://cli-bucket/"); strings.Count(out, "\n") != 5 {
		t.Errorf("ls: %s", out)
	}
	if out := s.run("aws", "s3", "ls"); !strings.Contains(out, "cli-bucket") {
		t.Errorf("ls: %s", out)
	}
	link := strings.TrimSpace(s.run("aws", "s3", "presign", "s3://cli-bucket/dir/small.txt"))
	testenv.Tool(t, "curl")
	if out := s.run("curl", "-sf", link); out != "hello\n" {
		t.Errorf("presigned: got %q", out)
	}
	s.run("aws", "s3api", "put-bucket-versioning", "--bucket", "cli-bucket", "--versioning-configuration", "Status=Enabled")
	if out := s.run("aws", "s3api", "get-bucket-versioning", "--bucket", "cli-bucket"); !strings.Contains(out, `"Status": "Enabled"`) {
		t.Errorf("versioning: %s", out)
	}
	s.run("aws", "s3api", "put-object", "--bucket", "cli-bucket", "--key", "v", "--body", "small.txt", "--tagging", "a=1&b=2", "--metadata", "who=me")
	s.run("aws", "s3api", "put-object", "--bucket", "cli-bucket", "--key", "v", "--body", "big.bin")
	var list struct {
		Versions []struct{ VersionId, Key string }
	}
	if err := json.Unmarshal([]byte(s.run("aws", "s3api", "list-object-versions", "--bucket", "cli-bucket", "--prefix", "v")), &list); err != nil || len(list.Versions) != 2 {
		t.Fatalf("versions: %+v, %v", list, err)
	}
	old := list.Versions[1].VersionId
	if out := s.run("aws", "s3api", "head-object", "--bucket", "cli-bucket", "--key", "v", "--version-id", old); !strings.Contains(out, `"who": "me"`) || !strings.Contains(out, `"ContentLength": 6`) {
		t.Errorf("head: %s", out)
	}
	if out := s.run("aws", "s3api", "get-object-tagging", "--bucket", "cli-bucket", "--key", "v", "--version-id", old); !strings.Contains(out, `"Key": "a"`) {
		t.Errorf("tagging: %s", out)
	}
	s.run("aws", "s3api", "put-bucket-tagging", "--bucket", "cli-bucket", "--tagging", "TagSet=[{Key=k,Value=v}]")
	if out := s.run("aws", "s3api", "get-bucket-tagging", "--bucket", "cli-bucket"); !strings.Contains(out, `"Value": "v"`) {
		t.Errorf("bucket tagging: %s", out)
	}
	if out := s.run("aws", "s3api", "get-bucket-location", "--bucket", "cli-bucket"); !strings.Contains(out, "eu-central-1") {
		t.Errorf("location: %s", out)
	}
	s.run("aws", "s3api", "delete-objects", "--bucket", "cli-bucket", "--delete", `Objects=[{Key=v,VersionId=`+old+`},{Key=big.copy}]`)
	s.run("aws", "s3api", "head-bucket", "--bucket", "cli-bucket")
	s.fails("404", "aws", "s3api", "head-object", "--bucket", "cli-bucket", "--key", "nothing")
	s.fails("BucketNotEmpty", "aws", "s3api", "delete-bucket", "--bucket", "cli-bucket")
	s.fails("NoSuchLifecycleConfiguration", "aws", "s3api", "get-bucket-lifecycle-configuration", "--bucket", "cli-bucket")
	s.fails("SignatureDoesNotMatch", "env", "AWS_SECRET_ACCESS_KEY=wrong", "aws", "s3", "ls", "s3://cli-bucket")
	s.fails("InvalidAccessKeyId", "env", "AWS_ACCESS_KEY_ID=AKIANOBODY", "aws", "s3", "ls", "s3://cli-bucket")
	s.run("aws", "s3", "mb", "s3://plain-bucket")
	s.run("aws", "s3", "cp", "small.txt", "s3://plain-bucket/x")
	s.run("aws", "s3", "rb", "--force", "s3://plain-bucket")
}

const botoScript = `
import boto3, io
from botocore.config import Config
from botocore.exceptions import ClientError
s3 = boto3.client("s3")
s3.create_bucket(Bucket="boto", CreateBucketConfiguration={"LocationConstraint": "ap-southeast-2"})
s3.put_object(Bucket="boto", Key="k é+/x", Body=b"body", ContentType="text/plain")
assert s3.get_object(Bucket="boto", Key="k é+/x")["Body"].read() == b"body"
s3.upload_fileobj(io.BytesIO(b"z" * (9 << 20)), "boto", "big")
assert s3.head_object(Bucket="boto", Key="big")["ContentLength"] == 9 << 20
assert s3.get_object(Bucket="boto", Key="big", Range="bytes=0-3")["Body"].read() == b"zzzz"
post = boto3.client("s3", config=Config(signature_version="s3v4")).generate_presigned_post("boto", "formed")
import urllib.request, urllib.error, uuid
b = uuid.uuid4().hex
form = "".join(f'--{b}\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n' for k, v in post["fields"].items())
form += f'--{b}\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\nby form\r\n--{b}--\r\n'
try:
    urllib.request.urlopen(urllib.request.Request(post["url"], form.encode(), {"Content-Type": "multipart/form-data; boundary=" + b}))
except urllib.error.HTTPError as e:
    raise SystemExit(e.read())
assert s3.get_object(Bucket="boto", Key="formed")["Body"].read() == b"by form"
try:
    s3.put_object(Bucket="boto", Key="formed", Body=b"again", IfNoneMatch="*")
    raise SystemExit("IfNoneMatch did not hold")
except ClientError as e:
    assert e.response["Error"]["Code"] == "PreconditionFailed", e
for o in s3.list_objects_v2(Bucket="boto")["Contents"]:
    s3.delete_object(Bucket="boto", Key=o["Key"])
s3.delete_bucket(Bucket="boto")
print("fine")
`

func TestBoto(t *testing.T) {
	testenv.PythonModule(t, "boto3")
	f := testGateway(t)
	s := f.shell("ap-southeast-2")
	if out := s.run("python3", "-c", botoScript); !strings.HasSuffix(out, "fine\n") {
		t.Errorf("got %s", out)
	}
}

const terraformMain = `
terraform {
  required_providers { aws = { source = "hashicorp/aws" } }
}
provider "aws" {
  region                      = "eu-west-1"
  s3_use_path_style           = true
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
}
resource "aws_s3_bucket" "b" {
  bucket = "tf-bucket"
  tags   = { team = "platform" }
}
resource "aws_s3_bucket_versioning" "v" {
  bucket = aws_s3_bucket.b.id
  versioning_configuration { status = "Enabled" }
}
resource "aws_s3_bucket_public_access_block" "p" {
  bucket                  = aws_s3_bucket.b.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}
resource "aws_s3_object" "o" {
  bucket  = aws_s3_bucket_versioning.v.bucket
  key     = "code/app.zip"
  content = "not really a zip"
}
output "version" { value = aws_s3_object.o.version_id }
`

func TestTerraform(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	testenv.Tool(t, "terraform")
	mirror := testenv.ProviderMirror(t)
	f := testGateway(t)
	s := f.shell("eu-west-1")
	s.write("main.tf", []byte(terraformMain))
	s.write("cli.rc", []byte(`provider_installation { filesystem_mirror { path = "`+mirror+`" } }`))
	s.env = append(s.env, "TF_CLI_CONFIG_FILE="+filepath.Join(s.dir, "cli.rc"), "CHECKPOINT_DISABLE=1", "TF_IN_AUTOMATION=1")
	s.run("terraform", "init", "-no-color", "-input=false")
	s.run("terraform", "apply", "-no-color", "-input=false", "-auto-approve")
	if out, code := s.try("terraform", "plan", "-no-color", "-input=false", "-detailed-exitcode"); code != 0 {
		t.Errorf("second plan: exit %d\n%s", code, out)
	}
	if out := s.run("terraform", "output", "-raw", "version"); len(out) != 26 {
		t.Errorf("version: %q", out)
	}
	s.run("terraform", "destroy", "-no-color", "-input=false", "-auto-approve")
	if left, err := os.ReadDir(filepath.Join(f.dir, "objects", dirBuckets)); err != nil || len(buckets(left)) != 0 {
		t.Errorf("left after destroy: %v, %v", left, err)
	}
}

func buckets(dirs []fs.DirEntry) (names []string) {
	for _, d := range dirs {
		if !strings.HasPrefix(d.Name(), ".") {
			names = append(names, d.Name())
		}
	}
	return names
}
