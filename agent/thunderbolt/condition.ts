/** How the addresses of Thunderbolt links are, as the Node's condition ThunderboltNotSet: True says what is in the way. Pure. */
import type { ConditionUpdate } from '../../src/api/conditions.ts'
import type { Outcome } from './configure.ts'

/** `outcome`: of the last pass; undefined: there was none, for the server has not said which addresses there are. */
export function notSet(outcome: Outcome | undefined): ConditionUpdate {
  const type = 'ThunderboltNotSet'
  if (outcome === undefined)
    return {
      ...{ type, status: 'Unknown', reason: 'WaitingForServer' },
      message: 'the server has not said yet which addresses the cables are to have',
    }
  if (outcome.kind === 'Unreadable') return { type, status: 'Unknown', reason: 'PortsUnread', message: outcome.message }
  if (outcome.kind === 'Failed')
    return { type, status: 'True', reason: 'CommandFailed', message: `${outcome.message}; it is tried again` }
  const { refusals, cables } = outcome.plan
  const [first] = refusals
  if (first !== undefined)
    return { type, status: 'True', reason: first.reason, message: refusals.map(({ message }) => message).join('; ') }
  const set = cables.map(({ peer, address }) => `${address} towards ${peer}`).join(', ')
  return {
    ...{ type, status: 'False', reason: 'ThunderboltSet' },
    message: cables.length === 0 ? 'no cable leads to another node' : `set: ${set}`,
  }
}

/** Of a Mac whose agent was not asked. */
export const notAsked: ConditionUpdate = {
  type: 'ThunderboltNotSet',
  status: 'False',
  reason: 'NotAsked',
  message: 'addresses of Thunderbolt links are left to people (`mctl agent --configure-thunderbolt` sets them)',
}
