/** A process to be killed: writes below the URL it is given and says how far it came. */
import { openStorage } from '../../src/storage/open-storage.ts'

const storage = await openStorage({ url: process.argv[2] ?? '' })

if (process.argv[3] === 'hold-writer') {
  const writer = await storage.openWriter('killed/pack')
  writer.append([Buffer.alloc(300_000, 1)])
  console.log('appended')
  setInterval(() => undefined, 1000)
} else {
  for (let number = 0; ; number += 1) {
    await storage.write(`stream/${String(number).padStart(6, '0')}`, Buffer.alloc(40_000, number))
    console.log(String(number))
  }
}
