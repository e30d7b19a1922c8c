/** A node that holds a model, as a process of its own: its models door, and nothing else. Tells its parent the port. */
import { Claims } from '../../agent/fetch/claims.ts'
import { openDoor } from '../../agent/fetch/door.ts'
import { silentLogger } from '../../src/lib/log.ts'

const [modelsDir = ''] = process.argv.slice(2)
process.once('disconnect', () => process.exit(0))
const door = await openDoor({
  address: '127.0.0.1',
  modelsDir,
  bootId: 'bench',
  claims: new Claims(),
  log: silentLogger,
})
process.send?.(door.port)
