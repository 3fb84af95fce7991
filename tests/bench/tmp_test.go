package main
import ("testing";"context";"fmt")
func TestTmp(t *testing.T){
 ctx:=context.Background()
 e,err:=openEnds(ctx,t.TempDir(),300000); if err!=nil {t.Fatal(err)}
 defer e.close()
 fmt.Println(e.version,e.rowBytes,e.want, e.pg.Dir)
 r:=newReport(settings{rows:300000,rounds:2})
 for range 2 {
 for c,f:=range map[carrier]func(context.Context,*ends)(cost,error){copyPipe:runCopyPipe,pgxLoop:runPgxLoop}{
  e.clear(ctx,plainTable)
  x,err:=f(ctx,e); fmt.Println(c,x.rate(300000),x.cpuPerMillion(300000),err, e.compare(ctx,plainTable))
  r.costs[c]=append(r.costs[c],x)
 }}
 r.costs[ropewayPlain]=r.costs[pgxLoop]
 r.costs[ropewaySteps]=r.costs[pgxLoop]
 r.buffer,err=benchmarks(ctx,"../../agent/internal/buffer","Put64KiB",1); fmt.Println(err)
 r.codec,err=benchmarks(ctx,"../../protocol/page","Encode$|Decode$",1); fmt.Println(err)
 fmt.Println(r.markdown())
}
