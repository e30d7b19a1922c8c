/** Why an agent that says Hello is not let in, in words that its person can act on. */
import { OpError } from '../lib/errors.ts'
import { tooOld } from '../lib/versionskew.ts'
import type { Hello, Session } from './session.ts'

export const nameTaken = ({ node, hello }: Session, silentMs: number): OpError =>
  new OpError(
    'Conflict',
    `node "${node}" is held by another agent (version ${hello.agentVersion}, boot ${hello.bootId}, heard ` +
      `${(silentMs / 1000).toFixed(0)} s ago): give this agent another --name, or stop the other one`,
  )

/** undefined: the agent's release works with ours. */
export function skewRefusal({ nodeName, agentVersion }: Hello, serverVersion: string): OpError | undefined {
  const old = tooOld(agentVersion, serverVersion)
  if (old === undefined) return undefined
  return new OpError(
    'Forbidden',
    `VersionSkew: the agent of node "${nodeName}" is of version ${agentVersion}, this server of ${serverVersion}; they work together one ` +
      `minor version apart. Upgrade ${old === 'one' ? 'the agent' : 'the server'} first, one minor version at a time. Its shards are left running`,
  )
}

export const unknownCluster = ({ nodeName, clusterUid }: Hello, own: string): OpError =>
  new OpError(
    'Forbidden',
    `UnknownCluster: the agent of node "${nodeName}" belongs to cluster ${clusterUid}, this is cluster ${own}. ` +
      `Its shards are left running. Point it at its own server, or, to move it here, stop it with its shards and give ` +
      `it an empty --data-dir`,
  )
