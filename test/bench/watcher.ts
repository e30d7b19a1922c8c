/**
 * A watcher in a process of its own, as agents and gateways are: tells its parent when it holds which version of one
 * object. The monotonic clock is the machine's, so that times of two processes can be compared.
 */
import { connect } from '../../src/rpc/grpcclient.ts'

/** What it tells: first that it listens, then each version with the time at which it came, in ns as text. */
export type Told = { readonly listens: true } | { readonly revision: string; readonly atNs: string }

const [address = '', name = ''] = process.argv.slice(2)
const tell = (told: Told): void => void process.send?.(told)
process.once('disconnect', () => process.exit(0))

const fieldSelector = `metadata.name=${name}`
for await (const event of connect(address, { user: 'bench' }).watch({ kind: 'Model', fieldSelector })) {
  const atNs = String(process.hrtime.bigint())
  if (event.type === 'BOOKMARK') tell({ listens: true })
  if (event.type === 'ADDED' || event.type === 'MODIFIED')
    tell({ revision: event.object.metadata.resourceVersion, atNs })
}
