/** Calls a server with a node's stolen credentials, from a machine of the lab; prints how each call ended, as JSON. */
import { readFileSync } from 'node:fs'
import type { Credentials } from '../../agent/credentials.ts'
import { isOpError } from '../../src/lib/errors.ts'
import { connect } from '../../src/rpc/grpcclient.ts'
import type { AgentMessage } from '../../src/rpc/messages.ts'

const [server = '', file = '', other = '', uid = ''] = process.argv.slice(2)
const { authorityPem, certificatePem, keyPem } = JSON.parse(readFileSync(file, 'utf8')) as Credentials
const client = connect(server, { tls: { authorityPem, own: { certificatePem, keyPem } } })

async function* hello(): AsyncIterable<AgentMessage> {
  yield { type: 'Hello', nodeName: other, agentVersion: '0', bootId: 'b', clusterUid: '', labels: {} }
  await new Promise((resolve) => setTimeout(resolve, 5000))
}
async function first(events: AsyncIterable<unknown>): Promise<unknown> {
  for await (const event of events) return event
  return undefined
}

const tries: Readonly<Record<string, () => Promise<unknown>>> = {
  session: () => first(client.nodeSession(hello())),
  shardsOfOther: () => client.list({ kind: 'Shard', fieldSelector: `spec.nodeName=${other}` }),
  allShards: () => client.list({ kind: 'Shard' }),
  tokens: () => client.list({ kind: 'JoinToken' }),
  statusOfOther: () => client.updateStatus({ uid, patch: { nodeInfo: { chip: 'Apple M9' } } }),
  apply: () => client.delete({ ref: { kind: 'Node', namespace: '', name: other } }),
  joinAsOther: () => client.join({ node: other, requestPem: 'x' }),
}
const ends: Record<string, string> = {}
for (const [name, run] of Object.entries(tries)) {
  try {
    await run()
    ends[name] = 'allowed'
  } catch (error) {
    ends[name] = isOpError(error) ? error.code : String(error)
  }
}
client.close()
process.stdout.write(JSON.stringify(ends))
