/** Writes dumps, one after the other, until it is killed; says on stdout what it is about to do. */
import { writeSync } from 'node:fs'
import { openStorage } from '../../src/storage/open-storage.ts'
import { groupOf, victimDump, writeMadeUpDump } from './dumped-files.ts'

const [url = '', first = '0'] = process.argv.slice(2)
const group = groupOf([await openStorage({ url })])
const tell = (what: string): unknown => writeSync(1, `${what}\n`)
for (let number = Number(first); ; number++) {
  await writeMadeUpDump(group, {
    ...victimDump(number),
    afterAppend: () => tell('appended'),
    beforePublish: async () => void tell('publishing'),
  })
  tell('published')
}
