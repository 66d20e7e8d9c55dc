package store_test
import ("testing")
func BenchmarkZGet(b *testing.B){
	_, bk := benchBucket(b, b.TempDir())
	bk.Create(b.Context(),"k",make([]byte,1000))
	for b.Loop() { bk.Get(b.Context(),"k") }
}
func BenchmarkZDocsSwap(b *testing.B){
	_, bk := benchBucket(b, b.TempDir())
	d := openResources(b, bk)
	rev, _ := d.Create(b.Context(),"k",someResource(0))
	for b.Loop() { rev,_ = d.Swap(b.Context(),"k",someResource(0),rev) }
}
func BenchmarkZSwap(b *testing.B){
	_, bk := benchBucket(b, b.TempDir())
	rev, _ := bk.Create(b.Context(),"k",make([]byte,1000))
	for b.Loop() { rev,_ = bk.Swap(b.Context(),"k",make([]byte,1000),rev) }
}
