/** Appends and flushes until it is killed; says on stdout what is acknowledged, in bytes. */
import { writeSync } from 'node:fs'
import { lsn } from '../../src/postgres/lsn.ts'
import { openWalSink } from '../../src/receive/wal-sink.ts'
import { openStorage } from '../../src/storage/open-storage.ts'
import { makeStreamed } from './streamed-wal.ts'

const [url = '', systemIdentifier = '', stepText = '3000'] = process.argv.slice(2)
const { bytes, begin } = makeStreamed()
const storage = await openStorage({ url })
const { sink, resume } = await openWalSink({
  required: [storage],
  cluster: 'main',
  systemIdentifier,
})
const step = Number(stepText)
let at = resume === undefined ? 0 : Number(resume.lsn) - begin
writeSync(1, `${resume === undefined ? 0 : Number(resume.flushed) - begin}\n`)
while (at < bytes.length) {
  const next = Math.min(bytes.length, at + step)
  sink.append(1, lsn(BigInt(begin + at)), bytes.subarray(at, next))
  at = next
  writeSync(1, `${Number(sink.flushNow?.() ?? (await sink.flush())) - begin}\n`)
}
await sink.close()
