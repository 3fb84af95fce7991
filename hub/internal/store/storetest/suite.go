package storetest

import (
	"testing"

	"ropeway/hub/internal/store"
)

// Open gives a test an empty store; the store is closed when the test ends.
type Open func(t testing.TB, opts ...store.Option) *store.Store

// Run runs the whole contract.
func Run(t *testing.T, open Open) {
	for _, c := range contract {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(NewRig(t, open(t, c.opts...)))
		})
	}
}

type rule struct {
	name string
	test func(r *Rig)
	opts []store.Option
}

var contract = []rule{
	{name: "Delivery_1_2_ContinuationIsWrittenWithTheReceiptOfTheRead", test: readContinues},
	{name: "Delivery_1_2_SweepFindsUnpublishedAndStaleReads", test: sweepFindsReads},
	{name: "Delivery_1_3_ReadsWaitForOutstandingPages", test: readsWait,
		opts: []store.Option{store.WithReadLimits(2, 1<<20)}},
	{name: "Delivery_1_3_ReadsWaitForOutstandingBytes", test: readsWaitForBytes,
		opts: []store.Option{store.WithReadLimits(64, 100)}},
	{name: "Delivery_1_4_UnkeyedReadIsNotResumable", test: unkeyedNotResumable},
	{name: "Delivery_2_1_TwoAgentsInTurn", test: agentsInTurn},
	{name: "Delivery_2_1_ResumeWithTheSameEpochIsIdempotent", test: resumeTwice},
	{name: "Delivery_2_1_ResumeIsRefusedWhenTheRequestHasAReceipt", test: resumeAfterReceipt},
	{name: "Delivery_2_1_ResumeIsRefusedUnderAHigherClaim", test: resumeUnderClaim},
	{name: "Delivery_2_1_AnEpochIsNeverCurrentAgain", test: epochNotReused},
	{name: "Delivery_2_3_PagesAreAcceptedInOrder", test: acceptedInOrder},
	{name: "Delivery_2_3_SameNameAndHashIsAlreadyThere", test: acceptedTwice},
	{name: "Delivery_2_3_SameNameOtherHashIsAConflict", test: otherHash},
	{name: "Delivery_2_3_WrongPreviousHashIsAConflict", test: wrongPrev},
	{name: "Delivery_2_3_OlderEpochIsSuperseded", test: olderEpoch},
	{name: "Delivery_2_3_PageAfterTheEndIsAConflict", test: afterTheEnd},
	{name: "Delivery_2_4_WrongTotalsAreRefusedLoudly", test: wrongTotals},
	{name: "Delivery_2_4_JobOfZeroRecords", test: zeroRecords},
	{name: "Delivery_3_2_StoredAnswerIsGivenBack", test: storedAnswer},
	{name: "Delivery_3_2_AdmissionOfPagesAndReads", test: admissions},
	{name: "Delivery_3_4_ReceiptIsWrittenOnce", test: receiptOnce},
	{name: "Delivery_3_4_FailingWriteLeavesNothing", test: failingWrite},
	{name: "Delivery_3_5_SettledWhenEveryNameHasAReceipt", test: settledAfterSplit},
	{name: "Delivery_3_5_ReceiptsBeforeAcceptanceCommute", test: receiptFirst},
	{name: "Delivery_3_5_SettledMarkIsContiguous", test: contiguousMark},
	{name: "Delivery_3_5_PublishedNamesMustDescendFromTheRoot", test: badNames},
	{name: "Delivery_3_6_RetryTakesRecordsOnce", test: retryOnce},
	{name: "Delivery_3_6_RetryResolvesOrSupersedes", test: retryOutcome},
	{name: "Delivery_3_6_CancelledRetryGivesRecordsBack", test: retryCancelled},
	{name: "Delivery_3_6_RetryThatParksAtOnceEnds", test: retryParksAtOnce},
	{name: "Delivery_5_2_ClaimsFenceStaleOwners", test: claimsFence},
	{name: "Delivery_7_JobEndsOnlyWhenTheSumCloses", test: jobEnds},
	{name: "Delivery_7_OpenSumPausesLoudly", test: openSum},
	{name: "Delivery_7_CountersOfAnEndedJobNeverChange", test: endedJobIsFixed},
	{name: "Delivery_7_ProveAgreesWithCounters", test: proveCloses},
	{name: "Semantics_3_5_OfflineConnectionPausesItsJobs", test: offlinePauses},
	{name: "Semantics_4_1_TerminalStatesAreNeverOverwritten", test: terminalStates},
	{name: "Semantics_4_1_OneTryPerWindowOfAPausedJob", test: tryPaused},
	{name: "Semantics_5_5_ParkedRecordsAreEditedAndListed", test: parkedRecords},
	{name: "Semantics_5_5_SameTraceKeyClosesTheOlderEntry", test: traceKeys},
	{name: "Delivery_5_2_SuccessOfTheTryResumesWithItsReceipt", test: tryResumes},
	{name: "Delivery_8_StopPausesWithTheReceipt", test: stopsWithReceipt},
	{name: "Delivery_3_6_LateSuccessOfACancelledRetryResolves", test: retryLate},
	{name: "Delivery_3_6_RecordsEditedMeanwhileAreRefused", test: retryEdited},
	{name: "Delivery_9_LedgerIsRemovedAfter30Days", test: cleanLedger},
	{name: "Delivery_9_UnsettledIsNeverRemoved", test: cleanKeeps},
	{name: "Promise_D11_ClockJumpRemovesNothing", test: cleanClock},
	{name: "Delivery_3_5_MarksOfUnkeyedExports", test: unkeyedMarks},
	{name: "Security_S2_OneKeyPerUseOfAToken", test: redeemOnce},
	{name: "Security_S3_ScopesSeeNothingOfEachOther", test: scopes},
	{name: "Security_S4_RevokedAgents", test: revokedAgents},
	{name: "Security_S7_AuditLogIsChained", test: auditChain},
	{name: "Tunnel_T4_NewestProcessWins", test: newestProcess},
	{name: "ObjectsKeepTheirIdAndCountVersions", test: objects},
	{name: "ObjectsAreAppliedAllOrNone", test: objectsAllOrNone},
	{name: "ObjectsInUseAreNotDeleted", test: objectsInUse},
	{name: "ConnectionStatesChangeAtomically", test: connectionStates},
	{name: "APITokens", test: apiTokens},
	{name: "ListsAreCutIntoPieces", test: lists},
}
